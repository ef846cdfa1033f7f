-- Inserts posts, except those whose uri already exists.
-- $1 uri  $2 cid  $3 author_did  $4 text  $5 langs  $6 parent_uri  $7 parent_cid  $8 root_uri  $9 root_cid  $10 embed
-- $11 facets  $12 tags  $13 created_at  $14 commit_seq  $15 indexed_at: arrays of one length, sorted by uri
-- Safe twice: a conflict does nothing. Only rows actually inserted are returned, and counters follow them.
-- Locks: new rows in uri order.
INSERT INTO posts (uri, cid, author_did, text, langs, parent_uri, parent_cid, root_uri, root_cid, embed, facets, tags,
    created_at, commit_seq, indexed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::jsonb[], $11::jsonb[], $12::jsonb[], $13::timestamp[], $14::text[], $15::timestamp[])
ON CONFLICT DO NOTHING
RETURNING uri
