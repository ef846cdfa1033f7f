-- Has the transaction wait for a lock for less than PostgreSQL waits before it looks for a deadlock (1 s by default),
-- so that where a repair and a worker wait for each other it is the repair that gives up and tries again.
-- Safe twice: the setting is the transaction's.
-- Locks: none.
SELECT set_config('lock_timeout', '500ms', true)
