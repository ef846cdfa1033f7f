-- Reads which of the tables do not exist.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL
