-- Inserts or replaces rows of {table}. Columns that are not listed here keep their values.
-- $1 … {columns}: arrays of one length, sorted by {key}. indexed_at, if listed, is used for new rows only.
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Locks: rows in {key} order; they belong to the repos of this batch.
INSERT INTO {table} AS r ({columns})
SELECT * FROM unnest({parameters})
ON CONFLICT ({key}) DO UPDATE
SET {assignments}
WHERE ({old}) IS DISTINCT FROM ({new})
