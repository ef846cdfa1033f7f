-- Reads a slice of the replies to an account's records, and which of them are recent.
-- $1 low $2 high, between which the URIs of the account's records are  $3 parent_uri $4 uri of the last reply of the previous
-- slice  $5 indexed_at from which on a reply is recent  $6 number of replies in a slice
-- Safe twice: reads only.
-- Locks: none.
SELECT parent_uri, uri, indexed_at >= $5::timestamp AS is_recent
FROM posts
WHERE parent_uri >= greatest($1::text, $3::text) AND parent_uri < $2::text AND (parent_uri, uri) > ($3::text, $4::text)
ORDER BY parent_uri, uri
LIMIT $6::bigint
