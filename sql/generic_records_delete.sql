-- Deletes rows of generic_records.
-- $1 uri text[], sorted
-- Safe twice: what is gone stays gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM generic_records WHERE uri = ANY($1::text[])
