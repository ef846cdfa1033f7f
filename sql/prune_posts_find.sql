-- Reads a slice of the posts that were first indexed before the limit, in the order of indexed_at and uri.
-- $1 indexed_at  $2 uri (the last post of the previous slice)  $3 limit of indexed_at  $4 number of posts
-- Safe twice: reads only.
-- Locks: none.
SELECT uri, author_did, indexed_at
FROM posts
WHERE (indexed_at, uri) > ($1::timestamp, $2::text) AND indexed_at < $3::timestamp
ORDER BY indexed_at, uri
LIMIT $4::bigint
