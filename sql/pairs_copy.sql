-- Inserts rows of {table} that are not there yet; one that is fails the transaction, which is then done over with
-- pairs_insert.sql. For many rows it costs PostgreSQL less than that.
-- Rows in binary form, sorted by uri.
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY {table} ({columns}, indexed_at) FROM STDIN (FORMAT binary)
