-- Inserts rows of posts that are not there yet; one that is fails the transaction, which is then done over with
-- posts_insert.sql. For many rows it costs PostgreSQL a third less than that.
-- uri cid author_did text langs parent_uri parent_cid root_uri root_cid embed facets tags created_at commit_seq
-- indexed_at: rows in binary form, sorted by uri
-- Safe twice: a row that is there already is a unique violation, and nothing of the transaction is kept.
-- Locks: new rows in uri order.
COPY posts (uri, cid, author_did, text, langs, parent_uri, parent_cid, root_uri, root_cid, embed, facets, tags,
    created_at, commit_seq, indexed_at) FROM STDIN (FORMAT binary)
