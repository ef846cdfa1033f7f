-- Finds the embeds of a slice of posts whose type ends in `#main`, or that may have a URL in place of a blob's CID.
-- $1 uri of the last post of the previous slice  $2 number of posts in a slice
-- Safe twice: reads only.
-- Returns the number of posts in the slice and its last uri, repeated with each post found. If there are none, the
-- post is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, embed::text AS embed FROM posts WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
)
SELECT total.n, total.last_uri, odd.uri, odd.embed
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN (
    SELECT * FROM slice
    WHERE embed ~ '#main"|"(\$link|/|ref|cid|image|thumb|thumbnail)": "[^"]*[^"A-Za-z0-9]'
) AS odd ON true
