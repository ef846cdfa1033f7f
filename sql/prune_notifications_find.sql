-- Reads a slice of the notifications from before the limit, in the order of indexed_at and uri.
-- $1 indexed_at  $2 uri (the last one of the previous slice)  $3 limit of indexed_at  $4 number of rows
-- Safe twice: reads only.
-- Locks: none.
SELECT uri, indexed_at
FROM notifications
WHERE (indexed_at, uri) > ($1::timestamp, $2::text) AND indexed_at < $3::timestamp
ORDER BY indexed_at, uri
LIMIT $4::bigint
