-- Updates posts.
-- $1 uri  $2 cid  $3 author_did  $4 text  $5 langs  $6 parent_uri  $7 parent_cid  $8 root_uri  $9 root_cid  $10 embed
-- $11 facets  $12 tags  $13 created_at  $14 commit_seq: arrays of one length, sorted by uri
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Locks: rows that posts_existing.sql has already locked.
UPDATE posts AS p
SET cid = new.cid, author_did = new.author_did, text = new.text, langs = new.langs, parent_uri = new.parent_uri,
    parent_cid = new.parent_cid, root_uri = new.root_uri, root_cid = new.root_cid, embed = new.embed,
    facets = new.facets, tags = new.tags, created_at = new.created_at, commit_seq = new.commit_seq
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::jsonb[], $11::jsonb[], $12::jsonb[], $13::timestamp[], $14::text[])
    AS new (uri, cid, author_did, text, langs, parent_uri, parent_cid, root_uri, root_cid, embed, facets, tags,
        created_at, commit_seq)
WHERE p.uri = new.uri
    AND (p.cid, p.author_did, p.text, p.langs, p.parent_uri, p.parent_cid, p.root_uri, p.root_cid, p.embed, p.facets,
        p.tags, p.created_at, p.commit_seq)
        IS DISTINCT FROM
        (new.cid, new.author_did, new.text, new.langs, new.parent_uri, new.parent_cid, new.root_uri, new.root_cid,
            new.embed, new.facets, new.tags, new.created_at, new.commit_seq)
