-- Deletes rows of feed_generators.
-- $1 uri text[], sorted
-- Safe twice: what is gone stays gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM feed_generators WHERE uri = ANY($1::text[])
