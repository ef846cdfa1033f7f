-- Inserts quotes, except those that already exist.
-- $1 uri  $2 cid  $3 post_uri  $4 quoted_uri  $5 quoted_cid  $6 created_at  $7 indexed_at: arrays of one length,
-- sorted by uri
-- Safe twice: a conflict does nothing. Only rows actually inserted are returned, and counters follow them.
-- Locks: new rows in uri order.
INSERT INTO quotes (uri, cid, post_uri, quoted_uri, quoted_cid, created_at, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamp[], $7::timestamp[])
ON CONFLICT DO NOTHING
RETURNING uri
