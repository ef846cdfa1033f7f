-- Gives rows of {table} new values; a new pair too, where a record's subject changed and nothing holds that pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one length,
-- sorted by uri; those that the table has no column for are not used.
-- Safe twice: the values are absolute.
-- Locks: rows that pairs_existing.sql locked already.
UPDATE {table} AS r
SET {assignments}
FROM unnest({parameters}) AS new ({columns})
WHERE r.uri = new.uri
