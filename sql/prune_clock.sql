-- Reads the server's clock, in microseconds since 1970.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT (extract(epoch FROM now()) * 1000000)::bigint AS micros
