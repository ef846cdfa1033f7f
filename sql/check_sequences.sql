-- Finds the sequences of the tables' serial columns that the session's role may not use. EXPLAIN does not find them,
-- because it draws no value.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT format('the role %I may not draw values from %s', current_user, names) AS found,
    format('GRANT USAGE ON SEQUENCE %s TO %I', names, current_user) AS remedy
FROM (
    SELECT string_agg(sequence, ', ' ORDER BY sequence) AS names
    FROM unnest($1::text[]) AS name
    JOIN pg_attribute AS a ON a.attrelid = to_regclass(name)
    CROSS JOIN LATERAL pg_get_serial_sequence(name, a.attname) AS sequence
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
        AND NOT has_sequence_privilege(sequence, 'USAGE, UPDATE')
) AS denied
WHERE names IS NOT NULL
