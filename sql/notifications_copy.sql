-- Inserts rows of notifications that do not exist yet. An existing row fails the transaction, which is then repeated
-- with notifications_upsert.sql. For many rows COPY costs PostgreSQL a third less.
-- uri recipient_did author_did reason reason_subject cid created_at indexed_at: rows in binary format, sorted by uri
-- Safe twice: an existing row is a unique violation, and the whole transaction is rolled back.
-- Locks: new rows in uri order.
COPY notifications (uri, recipient_did, author_did, reason, reason_subject, cid, created_at, indexed_at)
    FROM STDIN (FORMAT binary)
