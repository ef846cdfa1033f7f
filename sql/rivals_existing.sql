-- Reads the remembered records that have one of the uris.
-- $1 uri text[]  $2 table_name text
-- Safe twice: reads only.
-- Locks: none. The records of a pair belong to one repo, or the pair is already locked.
SELECT uri, key_a, key_b, entry_ms, entry_n, op, created_at, cid, subject_cid, via::text AS via, commit_seq, handle,
    verified_at
FROM firehose_worker.rivals
WHERE uri = ANY($1::text[]) AND table_name = $2::text
