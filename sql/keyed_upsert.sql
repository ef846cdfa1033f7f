-- Inserts or replaces rows of {table}; columns that are not named here stay.
-- $1 … {columns}: arrays of one length, sorted by {key}. indexed_at, where it is among them, is that of a new row.
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in {key} order, those of the repos at hand.
INSERT INTO {table} AS r ({columns})
SELECT * FROM unnest({parameters})
ON CONFLICT ({key}) DO UPDATE
SET {assignments}
WHERE ({old}) IS DISTINCT FROM ({new})
