-- Reads the remembered records that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 table_name text  $3 key_a text[]  $4 key_b text[] (the pairs, of one length)
-- Safe twice: reads only.
-- Locks: none; a pair's records belong to one repo, or the pair is locked.
SELECT r.uri, r.key_a, r.key_b, r.entry_ms, r.entry_n, r.op, r.created_at, r.cid, r.subject_cid, r.via::text AS via,
    r.commit_seq, r.handle, r.verified_at
FROM firehose_worker.rivals AS r
WHERE r.table_name = $2::text
    AND r.uri IN (
        SELECT unnest($1::text[])
        UNION
        SELECT held.uri
        FROM unnest($3::text[], $4::text[]) AS pair (key_a, key_b)
        JOIN firehose_worker.rivals AS held ON held.key_a = pair.key_a AND held.key_b = pair.key_b
    )
