-- Reads whether the server received a setting that the session was started with.
-- $1 name of the setting text
-- Safe twice: reads only.
-- Locks: none.
SELECT current_setting($1, true) = '1'
