-- Inserts or replaces rows of feed_generators; like_count stays.
-- $1 uri  $2 cid  $3 creator_did  $4 did  $5 display_name  $6 description  $7 avatar_url  $8 created_at
-- $9 indexed_at, of a row that is new: arrays of one length, sorted by uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in uri order, those of the repos at hand.
INSERT INTO feed_generators AS r (uri, cid, creator_did, did, display_name, description, avatar_url, created_at,
    indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::timestamp[], $9::timestamp[])
ON CONFLICT (uri) DO UPDATE
SET cid = excluded.cid, creator_did = excluded.creator_did, did = excluded.did, display_name = excluded.display_name,
    description = excluded.description, avatar_url = excluded.avatar_url, created_at = excluded.created_at,
    indexed_at = date_trunc('milliseconds', now())
WHERE (r.cid, r.creator_did, r.did, r.display_name, r.description, r.avatar_url, r.created_at)
    IS DISTINCT FROM
    (excluded.cid, excluded.creator_did, excluded.did, excluded.display_name, excluded.description,
        excluded.avatar_url, excluded.created_at)
