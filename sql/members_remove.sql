-- Takes members out: one that is not gone after all can commit nothing from here on.
-- $1 id bigint[]
-- Safe twice: rows that are gone are gone.
-- Locks: the rows; the gate is held.
DELETE FROM firehose_worker.members WHERE id = ANY($1::bigint[])
