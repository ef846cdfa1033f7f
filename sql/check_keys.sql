-- Reads the indexes of tables that an ON CONFLICT may go by, and the columns that any index holds.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT name AS table_name,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        ORDER BY a.attname
    ) AS columns,
    i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AS is_key
FROM unnest($1::text[]) AS name
JOIN pg_index AS i ON i.indrelid = to_regclass(name)
