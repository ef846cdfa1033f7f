-- Inserts rows of notifications that are not there yet; one that is fails the transaction, which is then done over with
-- notifications_upsert.sql. For many rows it costs PostgreSQL a third less than that.
-- uri recipient_did author_did reason reason_subject cid created_at indexed_at: rows in binary form, sorted by uri
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY notifications (uri, recipient_did, author_did, reason, reason_subject, cid, created_at, indexed_at)
    FROM STDIN (FORMAT binary)
