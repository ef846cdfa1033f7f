-- Creates the users that do not exist yet. Their handle becomes known when an identity event names it.
-- $1 did  $2 indexed_at: arrays of one length, sorted by did
-- Safe twice: an existing user is not changed.
-- Locks: new rows in did order, in a short transaction, because other workers' inserts of a user wait for it.
INSERT INTO users (did, handle, indexed_at)
SELECT did, 'handle.invalid', indexed_at FROM unnest($1::text[], $2::timestamp[]) AS new (did, indexed_at)
ON CONFLICT DO NOTHING
