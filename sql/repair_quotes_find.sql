-- Finds the posts of a slice that quote a record but have no row in quotes, whatever the dialect of the stored embed.
-- $1 uri of the last post of the previous slice  $2 number of posts in a slice
-- Safe twice: reads only.
-- Returns the number of posts in the slice and its last uri, repeated with each post found. If there are none, the
-- post is NULL.
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
