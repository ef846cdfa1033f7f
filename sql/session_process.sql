-- Reads the process that serves the session, which a pooler may change after each transaction.
-- No parameters: sent as simple text.
-- Safe twice: reads only.
-- Locks: none.
SELECT pg_backend_pid()
