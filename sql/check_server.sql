-- Reads the state and the settings of the server and the session.
-- No parameters. Of other sessions, only what every role may see is counted.
-- Safe twice: reads only.
-- Locks: none.
SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS version_number,
    pg_is_in_recovery() AS is_in_recovery,
    current_setting('default_transaction_read_only') AS read_only,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_source,
    quote_ident(current_user) AS role,
    quote_ident(current_database()) AS database,
    current_setting('max_connections')::bigint AS max_connections,
    current_setting('server_encoding') AS encoding,
    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS is_encrypted,
    extract(epoch FROM clock_timestamp())::float8 AS now,
    current_setting('max_connections')::bigint
        - CASE WHEN r.rolsuper THEN 0
            ELSE current_setting('superuser_reserved_connections')::bigint
                + coalesce(current_setting('reserved_connections', true), '0')::bigint END AS server_limit,
    (SELECT sum(numbackends)::bigint FROM pg_stat_database) AS server_used,
    CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END::bigint AS role_limit,
    (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid) AS role_used,
    CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END::bigint AS database_limit,
    (SELECT numbackends::bigint FROM pg_stat_database WHERE datid = d.oid) AS database_used,
    (
        SELECT count(*)
        FROM pg_stat_activity
        WHERE usesysid = r.oid AND application_name = current_setting('application_name')
    ) AS ours,
    coalesce(has_schema_privilege(to_regnamespace('public'), 'USAGE'), true) AS may_use_public,
    has_database_privilege(d.oid, 'CREATE') AS may_make_schemas,
    own.oid IS NOT NULL AS has_own_schema,
    coalesce(has_schema_privilege(own.oid, 'USAGE'), false) AS may_use_own_schema,
    coalesce(has_schema_privilege(own.oid, 'CREATE'), false) AS may_extend_own_schema
FROM pg_roles AS r
CROSS JOIN pg_database AS d
LEFT JOIN pg_namespace AS own ON own.nspname = 'firehose_worker'
WHERE r.rolname = current_user AND d.datname = current_database()
