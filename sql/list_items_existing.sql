-- Reads the rows of list_items that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 key_a text[]  $3 key_b text[] (the pairs, of one length)
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT r.uri, r.list_uri AS key_a, r.subject_did AS key_b, r.created_at,
    r.cid, NULL::text AS subject_cid, NULL::text AS via, NULL::text AS commit_seq, NULL::text AS handle, NULL::timestamp AS verified_at
FROM list_items AS r
WHERE r.uri IN (
    SELECT unnest($1::text[])
    UNION
    SELECT held.uri
    FROM unnest($2::text[], $3::text[]) AS pair (key_a, key_b)
    JOIN list_items AS held ON held.list_uri = pair.key_a AND held.subject_did = pair.key_b
)
ORDER BY r.uri
FOR UPDATE OF r
