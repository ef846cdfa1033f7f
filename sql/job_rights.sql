-- Reads the privileges that the session's role lacks.
-- $1 table  $2 privilege: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT current_user::text AS role, string_agg(privilege || ' on ' || name, ', ' ORDER BY name, privilege) AS lacks
FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
WHERE NOT has_table_privilege(name, privilege)
