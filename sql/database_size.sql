-- Reads the size of the database, and which database of the server it is.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none. PostgreSQL asks the file system for the size of each file, which takes milliseconds for 100 GB.
SELECT oid::bigint AS database, pg_database_size(oid) AS bytes
FROM pg_database
WHERE datname = current_database()
