-- Inserts rows of feed_items that are not there yet; one that is fails the transaction, which is then done over with
-- feed_items_upsert.sql. For many rows it costs PostgreSQL a third less than that.
-- uri post_uri originator_did type sort_at created_at cid indexed_at: rows in binary form, sorted by uri
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY feed_items (uri, post_uri, originator_did, type, sort_at, created_at, cid, indexed_at) FROM STDIN (FORMAT binary)
