-- Reads which of the users forbid data collection.
-- $1 did text[]
-- Safe twice: reads only.
-- Locks: none.
SELECT user_did
FROM user_settings
WHERE user_did = ANY($1::text[]) AND data_collection_forbidden
