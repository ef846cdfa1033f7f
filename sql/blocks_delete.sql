-- Deletes rows of blocks.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker made the row.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM blocks
WHERE uri = ANY($1::text[])
RETURNING uri, blocker_did AS key_a, blocked_did AS key_b, blocks.commit_seq IS NULL AS is_foreign
