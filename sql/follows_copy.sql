-- Inserts rows of follows that are not there yet; one that is fails the transaction, which is then done over with
-- follows_insert.sql. For many rows it costs PostgreSQL a third less than that.
-- uri follower_did following_did created_at commit_seq indexed_at: rows in binary form, sorted by uri
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY follows (uri, follower_did, following_did, created_at, commit_seq, indexed_at) FROM STDIN (FORMAT binary)
