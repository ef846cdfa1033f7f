-- Replaces embeds that are still what was found.
-- $1 uri  $2 what was found  $3 embed: arrays of one length, sorted by uri
-- Safe twice: the values are absolute.
-- Locks: the rows, in no order that matters: a worker locks posts of one repo at a time, and this waits for none for long.
UPDATE posts AS p
SET embed = new.embed
FROM unnest($1::text[], $2::jsonb[], $3::jsonb[]) AS new (uri, stored, embed)
WHERE p.uri = new.uri AND p.embed = new.stored
