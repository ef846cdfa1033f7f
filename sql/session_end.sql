-- Ends the own session, so that the pool opens another: one that found its server read-only may have been led to a server
-- that is no longer the primary, or keep a default that was changed meanwhile.
-- No parameters.
-- Safe twice: the second has no session to end.
-- Locks: none.
SELECT pg_terminate_backend(pg_backend_pid())
