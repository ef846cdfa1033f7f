-- Reads a slice of the rows of {table} about an account's posts, and which of them are recent.
-- $1 low $2 high, between which the URIs of the account's posts are  $3 post_uri $4 uri of the last row of the previous
-- slice  $5 indexed_at from which on a row is recent  $6 number of rows in a slice
-- Safe twice: reads only.
-- Locks: none.
SELECT post_uri, uri, indexed_at >= $5::timestamp AS is_recent
FROM {table}
WHERE post_uri >= greatest($1::text, $3::text) AND post_uri < $2::text AND (post_uri, uri) > ($3::text, $4::text)
ORDER BY post_uri, uri
LIMIT $6::bigint
