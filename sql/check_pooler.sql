-- Reads whether a setting that the session was started with has come through.
-- $1 name of the setting text
-- Safe twice: reads only.
-- Locks: none.
SELECT current_setting($1, true) = '1'
