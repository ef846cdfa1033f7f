-- Reads how large the database is and where its files are, as far as the role may know.
-- No parameters.
-- is_local is false if PostgreSQL was reached by the address of another machine, which a pooler on this one may hide.
-- Safe twice: reads only.
-- Locks: none.
SELECT pg_database_size(oid) AS bytes,
    coalesce(
        nullif(pg_tablespace_location(dattablespace), ''),
        (SELECT setting FROM pg_settings WHERE name = 'data_directory')
    ) AS directory,
    coalesce(inet_server_addr() <<= inet '127.0.0.0/8' OR inet_server_addr() <<= inet '::1/128', true) AS is_local
FROM pg_database
WHERE datname = current_database()
