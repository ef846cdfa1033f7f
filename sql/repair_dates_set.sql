-- Sets the dates of rows of {table} that are dated before the year 0100 to the time at which they were written. No
-- better date is known.
-- $1 key text[], sorted
-- Safe twice: a row that has another date by then is left unchanged.
-- Locks: the rows.
UPDATE {table}
SET {assignments}
WHERE {key} = ANY($1::text[]) AND {dated} < '0100-01-01'
