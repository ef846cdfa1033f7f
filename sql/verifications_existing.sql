-- Reads the rows of verifications that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 key_a text[]  $3 key_b text[] (the pairs, of one length)
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT r.uri, r.subject_did AS key_a, ''::text AS key_b, r.created_at, r.indexed_at,
    r.cid, NULL::text AS subject_cid, NULL::text AS via, NULL::text AS commit_seq, r.handle, r.verified_at
FROM verifications AS r
WHERE r.uri IN (
    SELECT unnest($1::text[])
    UNION
    SELECT held.uri
    FROM unnest($2::text[]) AS pair (key_a)
    JOIN verifications AS held ON held.subject_did = pair.key_a
)
ORDER BY r.uri
FOR UPDATE OF r
