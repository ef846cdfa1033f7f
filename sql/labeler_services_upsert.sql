-- Inserts or replaces rows of labeler_services; like_count stays.
-- $1 uri  $2 cid  $3 creator_did  $4 policies  $5 created_at  $6 indexed_at, of a row that is new: arrays of one
-- length, sorted by uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in uri order, those of the repos at hand.
INSERT INTO labeler_services AS r (uri, cid, creator_did, policies, created_at, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::timestamp[], $6::timestamp[])
ON CONFLICT (uri) DO UPDATE
SET cid = excluded.cid, creator_did = excluded.creator_did, policies = excluded.policies,
    created_at = excluded.created_at, indexed_at = date_trunc('milliseconds', now())
WHERE (r.cid, r.creator_did, r.policies, r.created_at)
    IS DISTINCT FROM
    (excluded.cid, excluded.creator_did, excluded.policies, excluded.created_at)
