-- Reads the columns of tables. A table that does not exist has no columns.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT name AS table_name, format('%I.%I', n.nspname, c.relname) AS full_name, a.attname::text AS column_name,
    format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AS is_required,
    a.atthasdef OR a.attidentity <> '' AS has_default
FROM unnest($1::text[]) AS name
JOIN pg_class AS c ON c.oid = to_regclass(name)
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE a.attnum > 0 AND NOT a.attisdropped
