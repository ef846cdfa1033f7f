-- Waits until no other worker creates the own tables. If two workers started at once, both would create them and one
-- would fail.
-- No parameters. The number is arbitrary, and the same for all workers. Sent before own_schema.sql in one message, and
-- therefore in the same transaction.
-- Safe twice: the transaction keeps the lock it has.
-- Locks: an advisory lock, exclusively, until the end of the transaction.
SELECT pg_advisory_xact_lock(7379555244292666213);
