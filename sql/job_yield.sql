-- Limits the transaction's lock waits to less than PostgreSQL's deadlock_timeout (1 s by default). If a job and a
-- worker wait for each other, the job therefore gives up and retries.
-- No parameters.
-- Safe twice: the setting ends with the transaction.
-- Locks: none.
SELECT set_config('lock_timeout', '500ms', true)
