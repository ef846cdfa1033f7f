-- Deletes posts.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned, with what is needed to take back what they caused.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM posts
WHERE uri = ANY($1::text[])
RETURNING uri, parent_uri, facets::text AS facets, commit_seq IS NULL AS is_foreign,
    CASE WHEN commit_seq IS NULL THEN embed::text END AS foreign_embed
