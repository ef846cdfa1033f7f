-- Reads, as the last thing before a commit, which processes write to this database. Two statements in one message: the second
-- must not look before the first has its lock.
-- No parameters: sent as simple text.
-- Safe twice: reads only.
-- Locks: the gate, shared, until the commit. Who joins or takes others out holds it alone, so every commit after that knows.
SELECT pg_advisory_xact_lock_shared(1718186597, 1);
SELECT id FROM firehose_worker.members
