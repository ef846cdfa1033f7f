-- Gives rows of likes new values; a new pair too, where a record's subject changed and nothing holds that pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one length,
-- sorted by uri; those that the table has no column for are empty.
-- Safe twice: the values are absolute.
-- Locks: rows that likes_existing.sql locked already.
UPDATE likes AS r
SET user_did = new.key_a, post_uri = new.key_b, created_at = new.created_at, subject_cid = new.subject_cid,
    via = new.via, commit_seq = new.commit_seq
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamp[], $6::text[], $7::jsonb[], $8::text[])
    AS new (uri, key_a, key_b, created_at, subject_cid, via, commit_seq)
WHERE r.uri = new.uri
