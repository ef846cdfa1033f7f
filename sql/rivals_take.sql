-- Forgets records that were deleted, and reads for which pairs other records wait: of the pairs that the rows freed,
-- and of those that the forgotten records were of, since the app may have deleted their rows before.
-- $1 uri text[]  $2 table_name text[]  $3 key_a text[]  $4 key_b text[] (the pairs, of one length)
-- Safe twice: forgetting is, and reading changes nothing.
-- Locks: rows by the primary key, those of the repos at hand, or of pairs that are locked.
WITH gone AS (
    DELETE FROM firehose_worker.rivals WHERE uri = ANY($1::text[]) RETURNING table_name, key_a, key_b
)
SELECT DISTINCT r.table_name, r.key_a, r.key_b
FROM (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) UNION SELECT * FROM gone)
    AS pair (table_name, key_a, key_b)
JOIN firehose_worker.rivals AS r
    ON r.key_a = pair.key_a AND r.key_b = pair.key_b AND r.table_name = pair.table_name
WHERE r.uri <> ALL($1::text[])
