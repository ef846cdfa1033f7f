-- Deletes the feed items of deleted posts and reposts.
-- $1 uri text[], sorted
-- Safe twice: a deleted row stays deleted.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM feed_items WHERE uri = ANY($1::text[])
