-- Deletes rows of {table}.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned: uri, the pair, and whether another than the worker may have made the
-- row.
-- Locks: rows by the primary key, those of the repos at hand only.
DELETE FROM {table}
WHERE uri = ANY($1::text[])
RETURNING uri, {key_a} AS key_a, {key_b} AS key_b, {is_foreign} AS is_foreign
