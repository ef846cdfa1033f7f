-- Reads a slice of the posts that an account has in {table}.
-- $1 user_did  $2 post_uri of the last row of the previous slice  $3 number of rows in a slice
-- Rows are looked up in the order of the pair's own index, as in pairs_held.sql. The slice ends early at the account's
-- last row.
-- Safe twice: reads only.
-- Locks: none.
SELECT post_uri
FROM (
    SELECT user_did, post_uri
    FROM {table}
    WHERE (user_did, post_uri) > ($1::text, $2::text)
    ORDER BY user_did, post_uri
    LIMIT $3::bigint
) AS slice
WHERE user_did = $1::text
