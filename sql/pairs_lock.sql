-- Locks the subjects of the verifications that a batch touches: several repos may have records of one subject.
-- $1 uri text[]  $2 subject_did text[], those of new records
-- PostgreSQL's table of locks has room for some thousands by default, whatever a batch holds. So a batch with many subjects
-- locks groups of them, by the last bits of their hashes; one with few locks each, and shares their groups with its like, so
-- that batches of different subjects do not wait for each other. Nobody else takes locks of these two classes.
-- Safe twice: the locks are the transaction's.
-- Locks: advisory, 128 of them at most: groups, then subjects, each in the order of their numbers, before any row is written.
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
