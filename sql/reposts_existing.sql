-- Reads the rows of reposts that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 key_a text[]  $3 key_b text[] (the pairs, of one length)
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT r.uri, r.user_did AS key_a, r.post_uri AS key_b, r.created_at,
    NULL::text AS cid, r.subject_cid, r.via::text AS via, r.commit_seq, NULL::text AS handle, NULL::timestamp AS verified_at
FROM reposts AS r
WHERE r.uri IN (
    SELECT unnest($1::text[])
    UNION
    SELECT held.uri
    FROM unnest($2::text[], $3::text[]) AS pair (key_a, key_b)
    JOIN reposts AS held ON held.user_did = pair.key_a AND held.post_uri = pair.key_b
)
ORDER BY r.uri
FOR UPDATE OF r
