-- Reads how large tables are with their indexes, and without (heap), in bytes. A table that does not exist is left out.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: ACCESS SHARE on each table for a moment.
SELECT tables.name, sum(pg_total_relation_size(member.oid))::bigint AS bytes, sum(pg_relation_size(member.oid))::bigint AS heap
FROM unnest($1::text[]) AS tables (name)
CROSS JOIN LATERAL (
    SELECT to_regclass(tables.name)::oid AS oid
    UNION
    SELECT relid FROM pg_partition_tree(to_regclass(tables.name))
) AS member
WHERE to_regclass(tables.name) IS NOT NULL
GROUP BY tables.name
