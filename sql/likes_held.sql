-- Reads which pairs a row of likes holds, before the rows of the others are copied.
-- $1 key_a text[]  $2 key_b text[] (the pairs, of one length)
-- A pair is found as the first from it on in the order of the pair's own index: by an equality the planner may take the
-- index of user_did or of post_uri alone, and read all that an account or a subject has.
-- Safe twice: reads only.
-- Locks: none; a row made between this and the copy fails the copy, and the transaction is done over.
SELECT pair.key_a, pair.key_b
FROM unnest($1::text[], $2::text[]) AS pair (key_a, key_b),
    LATERAL (
        SELECT user_did AS key_a, post_uri AS key_b
        FROM likes
        WHERE (user_did, post_uri) >= (pair.key_a, pair.key_b)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS held
WHERE (held.key_a, held.key_b) = (pair.key_a, pair.key_b)
