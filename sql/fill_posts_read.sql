-- Reads what of posts causes notifications.
-- $1 uri text[], sorted
-- Safe twice: reads only.
-- Locks: the rows read, shared, in uri order, until the end of the transaction. A worker that changes or deletes a post
-- waits, and then finds the notifications that this transaction has written.
SELECT uri, cid, author_did, parent_uri, embed::text AS embed, facets::text AS facets, created_at, indexed_at
FROM posts
WHERE uri = ANY($1::text[])
ORDER BY uri
FOR SHARE
