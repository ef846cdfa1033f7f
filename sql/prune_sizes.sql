-- Reads the sizes of tables with their indexes, and their estimated numbers of rows.
-- $1 table text[]
-- Safe twice: reads only.
-- Locks: none.
SELECT name, pg_total_relation_size(to_regclass(name)) AS bytes, greatest(c.reltuples, 0)::bigint AS n_rows
FROM unnest($1::text[]) AS name
JOIN pg_class AS c ON c.oid = to_regclass(name)
