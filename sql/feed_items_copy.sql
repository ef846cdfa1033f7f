-- Inserts rows of feed_items that do not exist yet. An existing row fails the transaction, which is then repeated with
-- feed_items_upsert.sql. For many rows COPY costs PostgreSQL a third less.
-- uri post_uri originator_did type sort_at created_at cid indexed_at: rows in binary format, sorted by uri
-- Safe twice: an existing row is a unique violation, and the whole transaction is rolled back.
-- Locks: new rows in uri order.
COPY feed_items (uri, post_uri, originator_did, type, sort_at, created_at, cid, indexed_at) FROM STDIN (FORMAT binary)
