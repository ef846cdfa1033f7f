-- Waits for the commits of other transactions that have looked for members already, and keeps others from looking.
-- No parameters: sent as simple text.
-- Safe twice: the lock is the transaction's.
-- Locks: the gate, until the commit; not waited for long, since whoever wants to commit waits behind this.
SET LOCAL lock_timeout = '500ms';
SELECT pg_advisory_xact_lock(1718186597, 1)
