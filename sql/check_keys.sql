-- Reads the indexes of tables: whether ON CONFLICT can use them, and the columns they hold.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT tables.name AS table_name,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        ORDER BY a.attname
    ) AS columns,
    ARRAY(
        SELECT a.attname::text
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS key (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
        WHERE place <= i.indnkeyatts
        ORDER BY a.attname
    ) AS key_columns,
    i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS is_key,
    i.indisprimary AS is_primary,
    (SELECT relname::text FROM pg_class WHERE oid = i.indexrelid) AS name
FROM unnest($1::text[]) AS tables (name)
JOIN pg_index AS i ON i.indrelid = to_regclass(tables.name)
