-- Makes the users that are not there yet; their handle is known once an identity event names it.
-- $1 did text[], sorted
-- Safe twice: a user who is there is left as they are, handle and all.
-- Locks: new rows in did order; in a short transaction of its own, since other workers' inserts of a user wait for it.
INSERT INTO users (did, handle)
SELECT did, 'handle.invalid' FROM unnest($1::text[]) AS did
ON CONFLICT DO NOTHING
