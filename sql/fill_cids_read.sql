-- Reads the CIDs of reposts, which only their feed items have.
-- $1 uri text[]
-- An unknown CID was replaced by the uri, see feed_items_upsert.sql.
-- Safe twice: reads only.
-- Locks: none; the reposts are locked.
SELECT uri, cid FROM feed_items WHERE uri = ANY($1::text[]) AND cid <> left(uri, 255)
