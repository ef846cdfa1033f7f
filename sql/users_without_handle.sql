-- Takes handles from all users but the one that an identity event gave each to.
-- $1 handle  $2 did: arrays of one length, sorted by handle
-- Safe twice: whoever has lost the handle does not have it.
-- Locks: rows that users_lock.sql locked already.
UPDATE users AS u
SET handle = 'handle.invalid'
FROM unnest($1::text[], $2::text[]) AS given (handle, did)
WHERE u.handle = given.handle AND u.did <> given.did
