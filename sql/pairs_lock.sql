-- Locks the subjects of the verifications that a batch touches, because several repos may have records of one subject.
-- $1 uri text[]  $2 subject_did text[], those of new records
-- By default PostgreSQL's lock table has room for a few thousand locks, and a batch may have more subjects. A batch
-- with many subjects therefore locks groups of them, by the last bits of their hashes. A batch with few subjects locks
-- each of them, and locks their groups in shared mode, so that batches with different subjects do not wait for each
-- other. No other statement takes locks of these two classes.
-- Safe twice: the transaction keeps the locks it has.
-- Locks: at most 128 advisory locks: groups, then subjects, each in the order of their numbers, before any row is
-- written.
WITH subject AS (
    SELECT DISTINCT hashtext(subject_did) AS number
    FROM (
        SELECT unnest($2::text[]) AS subject_did
        UNION ALL
        SELECT subject_did FROM verifications WHERE uri = ANY($1::text[])
        UNION ALL
        SELECT key_a FROM firehose_worker.rivals WHERE uri = ANY($1::text[])
    ) AS touched
), lock AS (
    SELECT DISTINCT 1718186598 AS class, number & 63 AS number FROM subject
    UNION ALL
    SELECT 1718186599, number FROM subject WHERE (SELECT count(*) FROM subject) <= 64
)
SELECT CASE
    WHEN class = 1718186598 AND has_few THEN pg_advisory_xact_lock_shared(class, number)::text
    ELSE pg_advisory_xact_lock(class, number)::text
END
FROM (
    SELECT class, number, (SELECT count(*) <= 64 FROM subject) AS has_few
    FROM lock
    ORDER BY class, number
) AS sorted
