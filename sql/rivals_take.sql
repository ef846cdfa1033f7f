-- Forgets deleted records, and returns the pairs that this frees or may free. These are the pairs of deleted rows for
-- which other records wait, and the pairs of the forgotten records, whose rows the AppView may have deleted before.
-- $1 uri text[]  $2 table_name text[]  $3 key_a text[]  $4 key_b text[] (the pairs, of one length)
-- Returns with each pair the first of its forgotten records and that record's position. If no record of the pair was
-- forgotten, the uri is NULL and the position is zero.
-- Safe twice: a forgotten record stays forgotten, and the rest only reads.
-- Locks: rows by the primary key; they belong to the repos of this batch, or to pairs that are already locked.
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
