-- Reads which rights the session's role lacks; those on tables that are not there are left out.
-- $1 table  $2 privilege: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT name AS table_name, string_agg(privilege, ', ' ORDER BY privilege) AS privileges
FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), privilege)
GROUP BY name
ORDER BY name
