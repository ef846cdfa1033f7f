-- Reads how the database stores text.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT current_setting('server_encoding')
