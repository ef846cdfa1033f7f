-- Inserts or replaces rows of post_gates.
-- $1 post_uri  $2 embedding_rules  $3 created_at: arrays of one length, sorted by post_uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in post_uri order, those of the repos at hand.
INSERT INTO post_gates AS r (post_uri, embedding_rules, created_at)
SELECT * FROM unnest($1::text[], $2::jsonb[], $3::timestamp[])
ON CONFLICT (post_uri) DO UPDATE
SET embedding_rules = excluded.embedding_rules, created_at = excluded.created_at
WHERE (r.embedding_rules, r.created_at)
    IS DISTINCT FROM
    (excluded.embedding_rules, excluded.created_at)
