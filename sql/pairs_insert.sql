-- Inserts rows of {table}, except those whose uri or pair ({pair}) already exists.
-- $1 … $11 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at, indexed_at: arrays
-- of one length, sorted by uri. Values for which the table has no column are not used.
-- Safe twice: a conflict on either key does nothing. Only rows actually inserted are returned, and counters follow
-- them.
-- Locks: new rows in uri order.
INSERT INTO {table} ({columns}, indexed_at)
SELECT * FROM unnest({parameters}, $11::timestamp[])
ON CONFLICT DO NOTHING
RETURNING uri
