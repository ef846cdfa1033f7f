-- Reads the state and the settings of the server and the session.
-- No parameters.
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
    current_setting('server_encoding') AS encoding,
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted,
    extract(epoch FROM clock_timestamp())::float8 AS now,
    coalesce(has_schema_privilege(to_regnamespace('public'), 'USAGE'), true) AS may_use_public,
    coalesce(has_schema_privilege(to_regnamespace('firehose_worker'), 'USAGE'), true) AS may_use_own_schema,
    coalesce(
        has_schema_privilege(to_regnamespace('firehose_worker'), 'CREATE'),
        has_database_privilege(current_database(), 'CREATE')
    ) AS may_create_own_tables
