-- Reads a slice of generic_records, and finds those from before the limit that are not by local accounts.
-- $1 last uri of the previous slice  $2 limit of indexed_at  $3 number of rows
-- Each row repeats the last uri and the length of the slice. Returns no record if none goes.
-- Safe twice: reads only.
-- Locks: none; prune_generic_records_delete.sql checks the time again.
WITH slice AS MATERIALIZED (
    SELECT uri::text, author_did::text, indexed_at FROM generic_records WHERE uri > $1::text ORDER BY uri LIMIT $3::bigint
), found AS (
    SELECT slice.uri
    FROM slice
        LEFT JOIN LATERAL (
            SELECT did FROM firehose_worker.local_dids WHERE did = slice.author_did LIMIT 1
        ) AS account ON true
    WHERE slice.indexed_at < $2::timestamp AND account.did IS NULL
)
SELECT total.n, total.last, found.uri
FROM (SELECT count(*) AS n, max(uri) AS last FROM slice) AS total
LEFT JOIN found ON true
