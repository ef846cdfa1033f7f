-- Finds the list items of a slice that are of somebody else's list.
-- $1 uri of the last item of the slice before  $2 items in a slice
-- Safe twice: reads only. Returns the slice's length and end, with one such item or none (NULL) beside it in each row.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, list_uri FROM list_items WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
), wrong AS (
    SELECT uri FROM slice WHERE split_part(list_uri, '/', 3) <> split_part(uri, '/', 3)
)
SELECT total.n, total.last_uri, wrong.uri
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN wrong ON true
