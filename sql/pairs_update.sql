-- Updates rows of {table}. Also changes the pair, if a record's subject changed and no row holds the new pair.
-- $1 … $10 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at: arrays of one
-- length, sorted by uri. Values for which the table has no column are not used.
-- Safe twice: the values are absolute.
-- Locks: rows that pairs_existing.sql has already locked.
UPDATE {table} AS r
SET {assignments}
FROM unnest({parameters}) AS new ({columns})
WHERE r.uri = new.uri
