-- Finds the remembered records of a slice that are list items of somebody else's list, or dated before the year 0100.
-- $1 uri of the last record of the slice before  $2 records in a slice
-- Safe twice: reads only. Returns the slice's length and end, with one such record or none (NULL) beside it in each row.
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
