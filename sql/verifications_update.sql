-- Gives rows of verifications new values; a new pair too, where a record's subject changed and nothing holds that pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one length,
-- sorted by uri; those that the table has no column for are empty.
-- Safe twice: the values are absolute.
-- Locks: rows that verifications_existing.sql locked already.
UPDATE verifications AS r
SET subject_did = new.key_a, created_at = new.created_at, cid = new.cid, handle = new.handle,
    verified_at = new.verified_at
FROM unnest($1::text[], $2::text[], $4::timestamp[], $5::text[], $9::text[], $10::timestamp[])
    AS new (uri, key_a, created_at, cid, handle, verified_at)
WHERE r.uri = new.uri
