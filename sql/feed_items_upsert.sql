-- Inserts or updates feed items.
-- $1 uri  $2 post_uri  $3 originator_did  $4 type  $5 created_at  $6 cid
-- $7 indexed_at, used for new rows only: arrays of one length, sorted by uri
-- An unknown cid is NULL. Then an existing row keeps its cid, and a new row gets the uri instead, cut to the length of
-- the column, as the AppView's own worker does.
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Returns the number of new rows: those that did not exist when the statement began. A partitioned table does not
-- return xmax.
-- Locks: rows in uri order; they belong to the repos of this batch.
WITH written AS (
    INSERT INTO feed_items AS f (uri, post_uri, originator_did, type, sort_at, created_at, cid, indexed_at)
    SELECT uri, post_uri, originator_did, type, created_at, created_at,
        coalesce(cid, (SELECT old.cid FROM feed_items AS old WHERE old.uri = new.uri), left(uri, 255)),
        indexed_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamp[], $6::text[], $7::timestamp[])
        AS new (uri, post_uri, originator_did, type, created_at, cid, indexed_at)
    ON CONFLICT (uri) DO UPDATE
    SET post_uri = excluded.post_uri, originator_did = excluded.originator_did, type = excluded.type,
        sort_at = excluded.sort_at, created_at = excluded.created_at, cid = excluded.cid
    WHERE (f.post_uri, f.originator_did, f.type, f.sort_at, f.created_at, f.cid)
        IS DISTINCT FROM
        (excluded.post_uri, excluded.originator_did, excluded.type, excluded.sort_at, excluded.created_at, excluded.cid)
    RETURNING f.uri
)
SELECT count(*) FROM written
WHERE (SELECT TRUE FROM feed_items AS old WHERE old.uri = written.uri) IS NULL
