-- Reads the encoding of the database.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT current_setting('server_encoding')
