-- Removes local accounts that no table has named for 30 days. If one comes back, it gets what it missed.
-- No parameters.
-- Safe twice: a removed account stays removed.
-- Locks: the rows deleted.
DELETE FROM firehose_worker.local_dids WHERE seen_at < now() - interval '30 days'
