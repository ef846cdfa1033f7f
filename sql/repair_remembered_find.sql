-- Finds the remembered records of a slice that are items in another account's list, or are dated before the year 0100.
-- $1 uri of the last record of the previous slice  $2 number of records in a slice
-- Safe twice: reads only.
-- Returns the number of records in the slice and its last uri, repeated with each record found. If there are none, the
-- record is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, table_name, key_a, created_at, verified_at
    FROM firehose_worker.rivals
    WHERE uri > $1::text
    ORDER BY uri
    LIMIT $2::bigint
), wrong AS (
    SELECT uri
    FROM slice
    WHERE table_name = 'list_items' AND split_part(key_a, '/', 3) <> split_part(uri, '/', 3)
        OR created_at < '0100-01-01' OR verified_at < '0100-01-01'
)
SELECT total.n, total.last_uri, wrong.uri
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN wrong ON true
