-- Finds the indexes that only serve searches and that PostgreSQL has not scanned since it counts, largest first, with
-- the number of all such indexes and the time since when it counts.
-- $1 table name text[], with a schema or found by search_path
-- Indexes that enforce something are left out. A crash of PostgreSQL resets its counts, which the database's own
-- stats_reset does not always tell.
-- Safe twice: reads only.
-- Locks: ACCESS SHARE on each index for a moment.
WITH since AS (
    SELECT coalesce(
        greatest(pg_stat_get_db_stat_reset_time(oid), pg_stat_get_bgwriter_stat_reset_time()), pg_postmaster_start_time()
    ) AS since
    FROM pg_database
    WHERE datname = current_database()
), searched AS (
    SELECT x.oid, format('%I.%I', n.nspname, x.relname) AS name, pg_stat_get_numscans(x.oid) AS scans
    FROM unnest($1::text[]) AS tables (name)
    CROSS JOIN LATERAL (
        SELECT to_regclass(tables.name)::oid AS oid
        UNION
        SELECT relid FROM pg_partition_tree(to_regclass(tables.name)) WHERE isleaf
    ) AS member
    JOIN pg_index AS i ON i.indrelid = member.oid
    JOIN pg_class AS x ON x.oid = i.indexrelid AND x.relkind = 'i'
    JOIN pg_namespace AS n ON n.oid = x.relnamespace
    WHERE NOT i.indisunique AND NOT i.indisexclusion AND NOT i.indisreplident
        AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = x.oid)
)
SELECT name, pg_relation_size(oid) AS bytes,
    (SELECT count(*) FROM searched) AS searched,
    to_char(since, 'YYYY-MM-DD') AS since,
    extract(epoch FROM now() - since)::bigint AS seconds
FROM since
LEFT JOIN searched ON scans = 0
ORDER BY 2 DESC NULLS LAST, 1
