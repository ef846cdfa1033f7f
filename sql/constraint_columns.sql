-- Reads the columns of a constraint.
-- $1 schema text  $2 table text  $3 constraint text
-- Safe twice: reads only.
-- Locks: none.
SELECT a.attname::text
FROM pg_catalog.pg_constraint AS c
JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = ANY (c.conkey)
WHERE n.nspname = $1 AND t.relname = $2 AND c.conname = $3
