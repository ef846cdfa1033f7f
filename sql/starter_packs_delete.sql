-- Deletes rows of starter_packs.
-- $1 uri text[], sorted
-- Safe twice: what is gone stays gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM starter_packs WHERE uri = ANY($1::text[])
