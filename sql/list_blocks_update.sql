-- Gives rows of list_blocks new values; a new pair too, where a record's subject changed and nothing holds that pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one length,
-- sorted by uri; those that the table has no column for are empty.
-- Safe twice: the values are absolute.
-- Locks: rows that list_blocks_existing.sql locked already.
UPDATE list_blocks AS r
SET blocker_did = new.key_a, list_uri = new.key_b, created_at = new.created_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamp[])
    AS new (uri, key_a, key_b, created_at)
WHERE r.uri = new.uri
