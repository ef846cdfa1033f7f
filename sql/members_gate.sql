-- Closes the gate: waits for the commits of transactions that have already read the members, and blocks others from
-- reading them.
-- No parameters: sent as simple text.
-- Safe twice: the transaction keeps the lock it has.
-- Locks: the gate, exclusively, until the commit. The wait is short, because every transaction that wants to commit
-- queues behind it.
SET LOCAL lock_timeout = '500ms';
SELECT pg_advisory_xact_lock(1718186597, 1)
