-- Inserts rows of list_items; one whose uri or pair (list_uri, subject_did) is there already is left out.
-- $1 … $11 uri, key_a, key_b, created_at, cid, subject_cid, via, commit_seq, handle, verified_at, indexed_at:
-- arrays of one length, sorted by uri; those that the table has no column for are empty.
-- Safe twice: a conflict on either key does nothing. Only rows really inserted are returned, and counted from that.
-- Locks: new rows in uri order.
INSERT INTO list_items (uri, list_uri, subject_did, created_at, cid, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamp[], $5::text[], $11::timestamp[])
ON CONFLICT DO NOTHING
RETURNING uri
