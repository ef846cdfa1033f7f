-- Locks the subjects of the verifications that a batch touches: several repos may have records of one subject.
-- $1 uri text[]  $2 subject_did text[], those of new records
-- A lock stands for all subjects whose hash has the same last bits: PostgreSQL's table of locks has room for some
-- thousands by default, whatever a batch holds. Nobody else takes locks of the class 1718186598.
-- Safe twice: the locks are the transaction's.
-- Locks: advisory, 64 of them at most, in the order of their numbers, before any row is written.
SELECT pg_advisory_xact_lock(1718186598, number)
FROM (
    SELECT DISTINCT hashtext(subject_did) & 63 AS number
    FROM (
        SELECT unnest($2::text[]) AS subject_did
        UNION ALL
        SELECT subject_did FROM verifications WHERE uri = ANY($1::text[])
        UNION ALL
        SELECT key_a FROM firehose_worker.rivals WHERE uri = ANY($1::text[])
    ) AS subject
    ORDER BY number
) AS sorted
