-- Marks a member that leaves voluntarily. Another member removes its row once everything that it has read is settled.
-- $1 id
-- Safe twice: the value is absolute.
-- Locks: the row.
UPDATE firehose_worker.members SET has_left = true WHERE id = $1::bigint
