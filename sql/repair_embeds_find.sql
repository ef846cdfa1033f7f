-- Finds the embeds of a slice of posts whose type ends in `#main`, or that may have an address in the place of a blob's CID.
-- $1 uri of the last post of the slice before  $2 posts in a slice
-- Safe twice: reads only. Returns the slice's length and end, with one such post or none (NULL) beside it in each row.
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
