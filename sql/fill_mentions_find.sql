-- Reads the posts of a slice of recent posts that mention any account.
-- $1 indexed_at $2 uri of the last post of the previous slice  $3 number of posts in a slice
-- Returns the end of the slice, repeated with each post found. If there are none, the uri is NULL.
-- Safe twice: reads only.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT indexed_at, uri, facets
    FROM posts
    WHERE indexed_at >= $1::timestamp AND (indexed_at, uri) > ($1::timestamp, $2::text)
    ORDER BY indexed_at, uri
    LIMIT $3::bigint
), slice_end AS (
    SELECT indexed_at, uri FROM slice ORDER BY indexed_at DESC, uri DESC LIMIT 1
)
SELECT slice_end.indexed_at AS last_indexed_at, slice_end.uri AS last_uri, found.uri, found.facets::text AS facets
FROM slice_end
LEFT JOIN slice AS found ON found.facets::text LIKE '%app.bsky.richtext.facet#mention%'
