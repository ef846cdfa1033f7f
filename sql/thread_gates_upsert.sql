-- Inserts or replaces rows of thread_gates.
-- $1 post_uri  $2 owner_did  $3 allow_mentions  $4 allow_following  $5 allow_list_members  $6 allow_list_uris
-- $7 created_at: arrays of one length, sorted by post_uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in post_uri order, those of the repos at hand.
INSERT INTO thread_gates AS r (post_uri, owner_did, allow_mentions, allow_following, allow_list_members,
    allow_list_uris, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::boolean[], $6::jsonb[], $7::timestamp[])
ON CONFLICT (post_uri) DO UPDATE
SET owner_did = excluded.owner_did, allow_mentions = excluded.allow_mentions,
    allow_following = excluded.allow_following, allow_list_members = excluded.allow_list_members,
    allow_list_uris = excluded.allow_list_uris, created_at = excluded.created_at
WHERE (r.owner_did, r.allow_mentions, r.allow_following, r.allow_list_members, r.allow_list_uris, r.created_at)
    IS DISTINCT FROM
    (excluded.owner_did, excluded.allow_mentions, excluded.allow_following, excluded.allow_list_members,
        excluded.allow_list_uris, excluded.created_at)
