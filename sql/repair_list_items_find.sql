-- Finds the items of a slice that an account put into another account's list.
-- $1 uri of the last item of the previous slice  $2 number of items in a slice
-- Safe twice: reads only.
-- Returns the number of items in the slice and its last uri, repeated with each item found. If there are none, the
-- item is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, list_uri FROM list_items WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
), wrong AS (
    SELECT uri FROM slice WHERE split_part(list_uri, '/', 3) <> split_part(uri, '/', 3)
)
SELECT total.n, total.last_uri, wrong.uri
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN wrong ON true
