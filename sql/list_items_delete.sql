-- Deletes rows of list_items.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker made the row.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM list_items
WHERE uri = ANY($1::text[])
RETURNING uri, list_uri AS key_a, subject_did AS key_b, false AS is_foreign
