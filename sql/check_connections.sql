-- Reads how many connections each limit leaves to the worker, and how to raise the limit if that is too few.
-- $1 connections that the worker opens bigint
-- Of other sessions, only what every role may see is counted. Those of a running worker and of this check do not count.
-- Safe twice: reads only.
-- Locks: none.
WITH role AS (
    SELECT oid, rolname, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = current_user
), database AS (
    SELECT oid, datname, datconnlimit FROM pg_database WHERE datname = current_database()
), own AS (
    SELECT count(*) AS used
    FROM pg_stat_activity, role
    WHERE usesysid = role.oid AND application_name = current_setting('application_name')
), limits AS (
    SELECT 'max_connections' AS name, current_setting('max_connections')::bigint AS setting,
        CASE WHEN rolsuper THEN 0
            ELSE current_setting('superuser_reserved_connections')::bigint
                + coalesce(current_setting('reserved_connections', true), '0')::bigint END AS reserved,
        (SELECT sum(numbackends)::bigint FROM pg_stat_database) AS used,
        'restart PostgreSQL after ALTER SYSTEM SET max_connections = ' AS raise
    FROM role
    UNION ALL
    SELECT 'the role''s CONNECTION LIMIT', rolconnlimit, 0,
        (SELECT count(*) FROM pg_stat_activity WHERE usesysid = role.oid),
        format('ALTER ROLE %I CONNECTION LIMIT ', rolname)
    FROM role WHERE NOT rolsuper AND rolconnlimit >= 0
    UNION ALL
    SELECT 'the database''s CONNECTION LIMIT', datconnlimit, 0,
        (SELECT numbackends FROM pg_stat_database WHERE datid = database.oid),
        format('ALTER DATABASE %I CONNECTION LIMIT ', datname)
    FROM database, role WHERE NOT rolsuper AND datconnlimit >= 0
)
SELECT name, free, raise || (setting + $1::bigint - free) AS raise
FROM limits, own, LATERAL (SELECT setting - reserved - limits.used + own.used) AS left_over (free)
ORDER BY free
