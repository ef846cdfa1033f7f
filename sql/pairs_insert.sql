-- Inserts rows of {table}; one whose uri or pair ({pair}) is there already is left out.
-- $1 … $11 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at, indexed_at:
-- arrays of one length, sorted by uri; those that the table has no column for are not used.
-- Safe twice: a conflict on either key does nothing. Only rows really inserted are returned, and counted from that.
-- Locks: new rows in uri order.
INSERT INTO {table} ({columns}, indexed_at)
SELECT * FROM unnest({parameters}, $11::timestamp[])
ON CONFLICT DO NOTHING
RETURNING uri
