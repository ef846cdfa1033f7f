-- Makes the users that are not there yet; their handle is known once an identity event names it.
-- $1 did  $2 indexed_at: arrays of one length, sorted by did
-- Safe twice: a user who is there is left as they are, handle and all.
-- Locks: new rows in did order; in a short transaction of its own, since other workers' inserts of a user wait for it.
INSERT INTO users (did, handle, indexed_at)
SELECT did, 'handle.invalid', indexed_at FROM unnest($1::text[], $2::timestamp[]) AS new (did, indexed_at)
ON CONFLICT DO NOTHING
