-- Reads the feed items of posts that belong to no stored post or repost.
-- $1 post_uri text[]  $2 limit of indexed_at  $3 number of rows
-- Safe twice: reads only.
-- Locks: none.
SELECT f.uri, f.post_uri
FROM feed_items AS f
WHERE f.post_uri = ANY($1::text[]) AND f.indexed_at < $2::timestamp
    AND NOT EXISTS (SELECT FROM reposts AS r WHERE r.uri = f.uri)
    AND NOT EXISTS (SELECT FROM posts AS p WHERE p.uri = f.uri)
LIMIT $3::bigint
