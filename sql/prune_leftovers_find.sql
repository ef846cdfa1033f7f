-- Reads a slice of {table}, and finds the rows from before the limit whose post is not stored, except those of local
-- accounts. The time may be one that a record claims; one that is still to come counts as old.
-- $1 last post_uri of the previous slice  $2 limit of {time}  $3 number of rows
-- Each row repeats the last uri and the length of the slice. Returns no uri if nothing goes.
-- Safe twice: reads only.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT post_uri::text AS uri, {time} AS at FROM {table} WHERE post_uri > $1::text ORDER BY post_uri LIMIT $3::bigint
), found AS (
    SELECT slice.uri
    FROM slice
        LEFT JOIN LATERAL (
            SELECT did FROM firehose_worker.local_dids WHERE did = split_part(slice.uri, '/', 3) LIMIT 1
        ) AS account ON true
    WHERE NOT (slice.at >= $2::timestamp AND slice.at <= now()) AND account.did IS NULL
        AND NOT EXISTS (SELECT FROM posts AS p WHERE p.uri = slice.uri)
)
SELECT total.n, total.last, found.uri
FROM (SELECT count(*) AS n, max(uri) AS last FROM slice) AS total
LEFT JOIN found ON true
