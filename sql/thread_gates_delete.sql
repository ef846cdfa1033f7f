-- Deletes rows of thread_gates.
-- $1 post_uri text[], sorted
-- Safe twice: what is gone stays gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM thread_gates WHERE post_uri = ANY($1::text[])
