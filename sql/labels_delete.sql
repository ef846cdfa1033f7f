-- Deletes labels, and by their foreign key their events.
-- $1 uri text[], sorted
-- Safe twice: what is gone stays gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM labels WHERE uri = ANY($1::text[])
