-- Deletes generic_records from before the limit.
-- $1 uri text[], sorted  $2 limit of indexed_at
-- Safe twice: a deleted row stays deleted, and a record that was written anew meanwhile stays.
-- Locks: rows by the primary key.
DELETE FROM generic_records WHERE uri = ANY($1::text[]) AND indexed_at < $2::timestamp
