-- Deletes the quotes of posts that are deleted or quote nothing any more.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned, and counted from that.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM quotes WHERE uri = ANY($1::text[]) RETURNING post_uri, quoted_uri
