-- Removes each handle from all users except the one to which an identity event assigned it.
-- $1 handle  $2 did: arrays of one length, sorted by handle
-- Safe twice: a user that lost the handle no longer has it.
-- Locks: rows that users_lock.sql has already locked.
UPDATE users AS u
SET handle = 'handle.invalid'
FROM unnest($1::text[], $2::text[]) AS given (handle, did)
WHERE u.handle = given.handle AND u.did <> given.did
