-- Updates existing quotes, and returns what they quoted before.
-- $1 uri  $2 cid  $3 post_uri  $4 quoted_uri  $5 quoted_cid  $6 created_at: arrays of one length, sorted by uri
-- Safe twice: the values are absolute, and a row that already has them is neither written nor returned.
-- Locks: rows in uri order; they belong to the repos of this batch.
WITH new AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamp[])
        AS new (uri, cid, post_uri, quoted_uri, quoted_cid, created_at)
), old AS (
    SELECT q.uri, q.quoted_uri FROM quotes AS q JOIN new ON new.uri = q.uri ORDER BY q.uri FOR UPDATE OF q
)
UPDATE quotes AS q
SET cid = new.cid, post_uri = new.post_uri, quoted_uri = new.quoted_uri, quoted_cid = new.quoted_cid,
    created_at = new.created_at
FROM new JOIN old ON old.uri = new.uri
WHERE q.uri = new.uri
    AND (q.cid, q.post_uri, q.quoted_uri, q.quoted_cid, q.created_at)
        IS DISTINCT FROM
        (new.cid, new.post_uri, new.quoted_uri, new.quoted_cid, new.created_at)
RETURNING q.post_uri, old.quoted_uri AS old_quoted_uri, q.quoted_uri
