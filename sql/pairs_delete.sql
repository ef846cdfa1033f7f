-- Deletes rows of {table}.
-- $1 uri text[], sorted
-- Safe twice: only rows actually deleted are returned, with the uri, the pair, and whether another program may have
-- written the row.
-- Locks: rows by the primary key; they belong to the repos of this batch.
DELETE FROM {table}
WHERE uri = ANY($1::text[])
RETURNING uri, {key_a} AS key_a, {key_b} AS key_b, {is_foreign} AS is_foreign
