-- Inserts or replaces rows of generic_records.
-- $1 uri  $2 cid  $3 author_did  $4 record_type  $5 record  $6 created_at  $7 indexed_at, of a row that is new: arrays
-- of one length, sorted by uri
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in uri order, those of the repos at hand.
INSERT INTO generic_records AS r (uri, cid, author_did, record_type, record, created_at, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::timestamp[], $7::timestamp[])
ON CONFLICT (uri) DO UPDATE
SET cid = excluded.cid, author_did = excluded.author_did, record_type = excluded.record_type, record = excluded.record,
    created_at = excluded.created_at
WHERE (r.cid, r.author_did, r.record_type, r.record, r.created_at)
    IS DISTINCT FROM
    (excluded.cid, excluded.author_did, excluded.record_type, excluded.record, excluded.created_at)
