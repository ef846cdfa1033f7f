-- Inserts rows of posts that do not exist yet. An existing row fails the transaction, which is then repeated with
-- posts_insert.sql. For many rows COPY costs PostgreSQL a third less.
-- uri cid author_did text langs parent_uri parent_cid root_uri root_cid embed facets tags created_at commit_seq
-- indexed_at: rows in binary format, sorted by uri
-- Safe twice: an existing row is a unique violation, and the whole transaction is rolled back.
-- Locks: new rows in uri order.
COPY posts (uri, cid, author_did, text, langs, parent_uri, parent_cid, root_uri, root_cid, embed, facets, tags,
    created_at, commit_seq, indexed_at) FROM STDIN (FORMAT binary)
