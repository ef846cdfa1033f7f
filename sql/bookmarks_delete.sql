-- Deletes rows of bookmarks.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker made the row:
-- it may have, since bookmarks have no commit_seq to tell.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM bookmarks
WHERE uri = ANY($1::text[])
RETURNING uri, user_did AS key_a, post_uri AS key_b, true AS is_foreign
