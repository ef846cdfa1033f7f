-- Reads the posts whose parent or root is one of the given posts.
-- $1 uri text[]  $2 number of rows
-- A post whose parent and root are given is returned twice.
-- Safe twice: reads only.
-- Locks: none.
SELECT uri, author_did, parent_uri, root_uri FROM posts WHERE parent_uri = ANY($1::text[])
UNION ALL
SELECT uri, author_did, parent_uri, root_uri FROM posts WHERE root_uri = ANY($1::text[])
LIMIT $2::bigint
