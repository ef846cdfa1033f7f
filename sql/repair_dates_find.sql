-- Finds the rows of a slice of {table} that are dated before the year 0100, which readers misread as another year.
-- $1 key of the last row of the previous slice  $2 number of rows in a slice
-- Safe twice: reads only.
-- Returns the number of rows in the slice and its last key, repeated with each row found. If there are none, its key
-- is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT {key} AS key, {dated} AS dated
    FROM {table}
    WHERE {key} > $1::text
    ORDER BY {key}
    LIMIT $2::bigint
)
SELECT total.n, total.last_key, ancient.key
FROM (SELECT count(*) AS n, max(key) AS last_key FROM slice) AS total
LEFT JOIN (SELECT key FROM slice WHERE dated < '0100-01-01') AS ancient ON true
