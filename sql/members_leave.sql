-- Marks a member as gone by its own will; who stays takes its row out once what it has read is settled.
-- $1 id
-- Safe twice: the value is absolute.
-- Locks: the row.
UPDATE firehose_worker.members SET has_left = true WHERE id = $1::bigint
