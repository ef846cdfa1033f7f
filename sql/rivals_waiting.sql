-- Reads the first remembered records of each pair, from a position on.
-- $1 table_name text  $2 key_a text[]  $3 key_b text[]  $4 entry_ms bigint[]  $5 entry_n bigint[]  $6 op integer[]
-- (distinct pairs and the position from which to read: arrays of one length)  $7 bigint, number of records for each
-- pair
-- The records are looked up as the first from the position on, in the order of rivals_place. The scan therefore does
-- not pass over deleted records before the position again, however many there are, and does not read later records,
-- however many wait.
-- Safe twice: reads only.
-- Locks: none. The records of a pair belong to one repo, or the pair is already locked.
SELECT r.uri, r.key_a, r.key_b, r.entry_ms, r.entry_n, r.op, r.created_at, r.cid, r.subject_cid, r.via::text AS via,
    r.commit_seq, r.handle, r.verified_at
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::integer[])
        AS pair (key_a, key_b, entry_ms, entry_n, op),
    LATERAL (
        SELECT *
        FROM firehose_worker.rivals
        WHERE (key_a, key_b, table_name, entry_ms, entry_n, op)
            >= (pair.key_a, pair.key_b, $1::text, pair.entry_ms, pair.entry_n, pair.op)
        ORDER BY key_a, key_b, table_name, entry_ms, entry_n, op
        LIMIT $7::bigint
    ) AS r
WHERE (r.key_a, r.key_b, r.table_name) = (pair.key_a, pair.key_b, $1::text)
