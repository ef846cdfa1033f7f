-- Deletes rows of follows.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker made the row.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM follows
WHERE uri = ANY($1::text[])
RETURNING uri, follower_did AS key_a, following_did AS key_b, follows.commit_seq IS NULL AS is_foreign
