-- Ends the worker's own session, so that the pool opens a new one. A session that found its server read-only may be
-- connected to a server that is no longer the primary, or may keep a default that has since been changed.
-- No parameters.
-- Safe twice: the second time there is no session to end.
-- Locks: none.
SELECT pg_terminate_backend(pg_backend_pid())
