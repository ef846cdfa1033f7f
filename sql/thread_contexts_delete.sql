-- Deletes the thread contexts of deleted posts. Other programs write these rows.
-- $1 post_uri text[], sorted
-- Safe twice: a deleted row stays deleted.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM thread_contexts WHERE post_uri = ANY($1::text[])
