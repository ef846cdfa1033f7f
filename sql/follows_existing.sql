-- Reads the rows of follows that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 key_a text[]  $3 key_b text[] (the pairs, of one length)
-- A pair is found as the first from it on in the order of the pair's own index: by an equality the planner may take the
-- index of follower_did or of following_did alone, and read all that an account or a subject has.
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT r.uri, r.follower_did AS key_a, r.following_did AS key_b, r.created_at, r.indexed_at,
    NULL::text AS cid, NULL::text AS subject_cid, NULL::text AS via, r.commit_seq, NULL::text AS handle,
    NULL::timestamp AS verified_at
FROM follows AS r
WHERE r.uri IN (
    SELECT unnest($1::text[])
    UNION
    SELECT held.uri
    FROM unnest($2::text[], $3::text[]) AS pair (key_a, key_b),
        LATERAL (
            SELECT uri, follower_did AS key_a, following_did AS key_b
            FROM follows
            WHERE (follower_did, following_did) >= (pair.key_a, pair.key_b)
            ORDER BY follower_did, following_did
            LIMIT 1
        ) AS held
    WHERE (held.key_a, held.key_b) = (pair.key_a, pair.key_b)
)
ORDER BY r.uri
FOR UPDATE OF r
