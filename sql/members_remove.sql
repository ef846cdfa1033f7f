-- Removes members. If a removed member is still alive, it cannot commit any more transactions.
-- $1 id bigint[]
-- Safe twice: a deleted row stays deleted.
-- Locks: the rows; the caller holds the gate.
DELETE FROM firehose_worker.members WHERE id = ANY($1::bigint[])
