-- Forgets all records of pairs whose rows were deleted.
-- $1 table_name  $2 key_a  $3 key_b: arrays of one length, sorted; the pairs
-- Safe twice: a forgotten record stays forgotten.
-- Locks: the rows of each pair; the pair itself is locked by the delete of its row.
DELETE FROM firehose_worker.rivals AS r
USING unnest($1::text[], $2::text[], $3::text[]) AS pair (table_name, key_a, key_b)
WHERE r.key_a = pair.key_a AND r.key_b = pair.key_b AND r.table_name = pair.table_name
