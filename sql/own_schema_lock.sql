-- Waits until no other worker makes the own tables: two that start at once would both make them, and one would fail.
-- No parameters; the number is any, the same for all workers. Goes before own_schema.sql in one message, so one transaction.
-- Safe twice: a lock that is held already is held.
-- Locks: an advisory lock of the transaction, alone.
SELECT pg_advisory_xact_lock(7379555244292666213);
