-- Locks the pairs of list items and verifications that a batch touches: several repos may have records of one pair.
-- $1 uri text[] (list items)  $2 uri text[] (verifications)  $3 key_a text[]  $4 key_b text[] (pairs of new records, of
-- one length; key_b is empty for verifications)
-- Safe twice: the locks are the transaction's.
-- Locks: advisory, in the order of their numbers, before any row is written.
SELECT pg_advisory_xact_lock(number)
FROM (
    SELECT DISTINCT hashtextextended(key_a || ' ' || key_b, 0) AS number
    FROM (
        SELECT * FROM unnest($3::text[], $4::text[]) AS new (key_a, key_b)
        UNION ALL
        SELECT list_uri, subject_did FROM list_items WHERE uri = ANY($1::text[])
        UNION ALL
        SELECT subject_did, '' FROM verifications WHERE uri = ANY($2::text[])
        UNION ALL
        SELECT key_a, key_b FROM firehose_worker.rivals WHERE uri = ANY($1::text[] || $2::text[])
    ) AS pair (key_a, key_b)
    ORDER BY number
) AS sorted
