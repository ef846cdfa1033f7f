-- Gives rows of list_items new values; a new pair too, where a record's subject changed and nothing holds that pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one length,
-- sorted by uri; those that the table has no column for are empty.
-- Safe twice: the values are absolute.
-- Locks: rows that list_items_existing.sql locked already.
UPDATE list_items AS r
SET list_uri = new.key_a, subject_did = new.key_b, created_at = new.created_at, cid = new.cid
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamp[], $5::text[])
    AS new (uri, key_a, key_b, created_at, cid)
WHERE r.uri = new.uri
