-- Reads the sequences of the tables' serial columns that the session's role may not use. EXPLAIN does not reveal this,
-- because it draws no value.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT pg_get_serial_sequence(name, a.attname) AS sequence
FROM unnest($1::text[]) AS name
JOIN pg_attribute AS a ON a.attrelid = to_regclass(name)
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
    AND NOT has_sequence_privilege(pg_get_serial_sequence(name, a.attname), 'USAGE, UPDATE')
