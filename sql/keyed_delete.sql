-- Deletes rows of {table}.
-- $1 {key} text[], sorted
-- Safe twice: a deleted row stays deleted.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM {table} WHERE {key} = ANY($1::text[])
