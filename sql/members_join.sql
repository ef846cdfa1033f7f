-- Adds a process to the members.
-- $1 id  $2 consumer  $3 lease_key  $4 mark
-- Safe twice: an existing row is kept.
-- Locks: the new row; the caller holds the gate.
INSERT INTO firehose_worker.members (id, consumer, lease_key, mark)
VALUES ($1::bigint, $2::text, $3::text, $4::text)
ON CONFLICT DO NOTHING
