-- Inserts rows of {table} that do not exist yet. An existing row fails the transaction, which is then repeated with
-- pairs_insert.sql. For many rows COPY costs PostgreSQL less.
-- Rows in binary format, sorted by uri.
-- Safe twice: an existing row is a unique violation, and the whole transaction is rolled back.
-- Locks: new rows in uri order.
COPY {table} ({columns}, indexed_at) FROM STDIN (FORMAT binary)
