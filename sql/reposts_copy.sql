-- Inserts rows of reposts that are not there yet; one that is fails the transaction, which is then done over with
-- reposts_insert.sql. For many rows it costs PostgreSQL a third less than that.
-- uri user_did post_uri created_at subject_cid via commit_seq indexed_at: rows in binary form, sorted by uri
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY reposts (uri, user_did, post_uri, created_at, subject_cid, via, commit_seq, indexed_at) FROM STDIN (FORMAT binary)
