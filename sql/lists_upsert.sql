-- Inserts or replaces rows of lists.
-- $1 uri  $2 cid  $3 creator_did  $4 name  $5 purpose  $6 description  $7 avatar_url  $8 created_at
-- $9 indexed_at, of a row that is new: arrays of one length, sorted by uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in uri order, those of the repos at hand.
INSERT INTO lists AS r (uri, cid, creator_did, name, purpose, description, avatar_url, created_at, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::timestamp[], $9::timestamp[])
ON CONFLICT (uri) DO UPDATE
SET cid = excluded.cid, creator_did = excluded.creator_did, name = excluded.name, purpose = excluded.purpose,
    description = excluded.description, avatar_url = excluded.avatar_url, created_at = excluded.created_at
WHERE (r.cid, r.creator_did, r.name, r.purpose, r.description, r.avatar_url, r.created_at)
    IS DISTINCT FROM
    (excluded.cid, excluded.creator_did, excluded.name, excluded.purpose, excluded.description, excluded.avatar_url,
        excluded.created_at)
