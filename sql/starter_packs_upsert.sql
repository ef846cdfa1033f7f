-- Inserts or replaces rows of starter_packs.
-- $1 uri  $2 cid  $3 creator_did  $4 name  $5 description  $6 list_uri  $7 feeds  $8 created_at
-- $9 indexed_at, of a row that is new: arrays of one length, sorted by uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in uri order, those of the repos at hand.
INSERT INTO starter_packs AS r (uri, cid, creator_did, name, description, list_uri, feeds, created_at,
    indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[],
    $8::timestamp[], $9::timestamp[])
ON CONFLICT (uri) DO UPDATE
SET cid = excluded.cid, creator_did = excluded.creator_did, name = excluded.name, description = excluded.description,
    list_uri = excluded.list_uri, feeds = excluded.feeds, created_at = excluded.created_at,
    indexed_at = date_trunc('milliseconds', now())
WHERE (r.cid, r.creator_did, r.name, r.description, r.list_uri, r.feeds, r.created_at)
    IS DISTINCT FROM
    (excluded.cid, excluded.creator_did, excluded.name, excluded.description, excluded.list_uri, excluded.feeds,
        excluded.created_at)
