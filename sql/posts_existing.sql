-- Reads the side effects in other tables of posts that are about to be replaced.
-- $1 uri text[], sorted
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT p.uri, p.parent_uri, p.facets::text AS facets, p.commit_seq IS NULL AS is_foreign,
    CASE WHEN p.commit_seq IS NULL THEN p.embed::text END AS foreign_embed
FROM posts AS p
WHERE p.uri = ANY($1::text[])
ORDER BY p.uri
FOR UPDATE OF p
