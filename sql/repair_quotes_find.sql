-- Finds posts of a slice that quote a record and have no row in quotes, whichever dialect their embed was stored in.
-- $1 uri of the last post of the slice before  $2 posts in a slice
-- Safe twice: reads only. Returns the slice's length and end, with one such post or none (NULL) beside it in each row.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, embed FROM posts WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
), embedded AS (
    SELECT uri,
        CASE coalesce(embed ->> '$type', embed ->> 'py_type')
            WHEN 'app.bsky.embed.record' THEN embed -> 'record'
            WHEN 'app.bsky.embed.recordWithMedia' THEN embed #> '{record,record}'
        END AS record
    FROM slice
), missing AS (
    SELECT uri
    FROM embedded
    WHERE starts_with(record ->> 'uri', 'at://') AND length(record ->> 'uri') <= 512 AND length(uri) <= 506
        AND NOT EXISTS (SELECT FROM quotes WHERE quotes.post_uri = embedded.uri)
)
SELECT total.n, total.last_uri, missing.uri
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN missing ON true
