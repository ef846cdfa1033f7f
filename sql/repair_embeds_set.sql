-- Replaces embeds where the stored value is still the one found.
-- $1 uri  $2 value found  $3 embed: arrays of one length, sorted by uri
-- Safe twice: the values are absolute.
-- Locks: the rows, in any order. The order does not matter: repair gives up a wait for a lock after a short time.
UPDATE posts AS p
SET embed = new.embed
FROM unnest($1::text[], $2::jsonb[], $3::jsonb[]) AS new (uri, stored, embed)
WHERE p.uri = new.uri AND p.embed = new.stored
