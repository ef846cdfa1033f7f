-- Deletes rows of {table}.
-- $1 {key} text[], sorted
-- Safe twice: rows that are gone stay gone.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM {table} WHERE {key} = ANY($1::text[])
