-- Forgets records that were deleted, and reads which pairs that frees, or may free: those of the rows that went, where other
-- records wait, and those that the forgotten records were of, since the app may have deleted their rows before.
-- $1 uri text[]  $2 table_name text[]  $3 key_a text[]  $4 key_b text[] (the pairs, of one length)
-- Safe twice: forgetting is, and reading changes nothing. Returns with each pair the first of its forgotten records, and
-- that one's place. A pair of which nothing is forgotten has only records that stay.
-- Locks: rows by the primary key, those of the repos at hand, or of pairs that are locked.
WITH gone AS (
    DELETE FROM firehose_worker.rivals
    WHERE uri = ANY($1::text[])
    RETURNING table_name, key_a, key_b, uri, entry_ms, entry_n, op
),
forgotten AS (
    SELECT DISTINCT ON (table_name, key_a, key_b) table_name, key_a, key_b, uri, entry_ms, entry_n, op
    FROM gone
    ORDER BY table_name, key_a, key_b, entry_ms, entry_n, op, uri
)
SELECT table_name, key_a, key_b, uri, entry_ms, entry_n, op
FROM forgotten
UNION ALL
SELECT table_name, key_a, key_b, NULL, 0, 0, 0
FROM (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[])
    EXCEPT
    SELECT table_name, key_a, key_b FROM forgotten
) AS pair (table_name, key_a, key_b)
WHERE EXISTS (
    SELECT FROM firehose_worker.rivals AS r
    WHERE r.key_a = pair.key_a AND r.key_b = pair.key_b AND r.table_name = pair.table_name
)
