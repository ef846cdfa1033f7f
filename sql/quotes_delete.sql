-- Deletes the quotes of posts that were deleted or no longer quote anything.
-- $1 uri text[], sorted
-- Safe twice: only rows actually deleted are returned, and counters follow them.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM quotes WHERE uri = ANY($1::text[]) RETURNING post_uri, quoted_uri
