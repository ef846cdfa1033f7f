-- Remembers records of a pair, with their positions and the values that their rows would have.
-- $1 uri  $2 table_name (one for all)  $3 key_a  $4 key_b  $5 entry_ms  $6 entry_n  $7 op  $8 created_at  $9 cid
-- $10 subject_cid  $11 via  $12 commit_seq  $13 handle  $14 verified_at: arrays of one length, sorted by uri
-- Safe twice: the values are absolute.
-- Locks: rows in uri order; they belong to the repos of this batch.
INSERT INTO firehose_worker.rivals
    (uri, table_name, key_a, key_b, entry_ms, entry_n, op, created_at, cid, subject_cid, via, commit_seq, handle,
        verified_at)
SELECT new.uri, $2::text, new.key_a, new.key_b, new.entry_ms, new.entry_n, new.op, new.created_at, new.cid,
    new.subject_cid, new.via, new.commit_seq, new.handle, new.verified_at
FROM unnest($1::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::integer[], $8::timestamp[], $9::text[],
        $10::text[], $11::jsonb[], $12::text[], $13::text[], $14::timestamp[])
    AS new (uri, key_a, key_b, entry_ms, entry_n, op, created_at, cid, subject_cid, via, commit_seq, handle,
        verified_at)
ON CONFLICT (uri) DO UPDATE
SET table_name = excluded.table_name, key_a = excluded.key_a, key_b = excluded.key_b,
    entry_ms = excluded.entry_ms, entry_n = excluded.entry_n, op = excluded.op,
    created_at = excluded.created_at, cid = excluded.cid, subject_cid = excluded.subject_cid, via = excluded.via,
    commit_seq = excluded.commit_seq, handle = excluded.handle, verified_at = excluded.verified_at
