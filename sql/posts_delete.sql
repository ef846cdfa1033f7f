-- Deletes posts.
-- $1 uri text[], sorted
-- Safe twice: only rows actually deleted are returned, with the values needed to revert their side effects.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM posts
WHERE uri = ANY($1::text[])
RETURNING uri, parent_uri, facets::text AS facets, commit_seq IS NULL AS is_foreign,
    CASE WHEN commit_seq IS NULL THEN embed::text END AS foreign_embed
