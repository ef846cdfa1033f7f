-- Writes the positions of a batch's last ops. Returns the keys for which no later op has been written.
-- $1 key  $2 entry_ms  $3 entry_n  $4 op  $5 is_deleted  $6 cid: arrays of one length, sorted by key
-- Safe twice: an op finds its own position and is returned again.
-- Locks: rows in key order, including those that are not returned, before the transaction locks any other row. The
-- rows of the repos are among them, so no other process holds a lock that a later statement needs for a repo.
INSERT INTO firehose_worker.versions AS v (key, entry_ms, entry_n, op, is_deleted, cid)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::boolean[], $6::text[])
ON CONFLICT (key) DO UPDATE
SET entry_ms = excluded.entry_ms, entry_n = excluded.entry_n, op = excluded.op, is_deleted = excluded.is_deleted,
    cid = excluded.cid
WHERE (excluded.entry_ms, excluded.entry_n, excluded.op) >= (v.entry_ms, v.entry_n, v.op)
RETURNING v.key
