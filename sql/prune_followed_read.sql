-- Reads whom accounts follow.
-- $1 follower_did text[]
-- Safe twice: reads only.
-- Locks: none.
SELECT following_did FROM follows WHERE follower_did = ANY($1::text[])
