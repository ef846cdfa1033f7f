-- Deletes rows of list_blocks.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker made the row.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM list_blocks
WHERE uri = ANY($1::text[])
RETURNING uri, blocker_did AS key_a, list_uri AS key_b, false AS is_foreign
