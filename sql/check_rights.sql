-- Reads the privileges that the session's role lacks. Tables that do not exist are left out.
-- $1 table  $2 privilege: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT format('%I.%I', n.nspname, c.relname) AS full_name, string_agg(privilege, ', ' ORDER BY privilege) AS privileges
FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
JOIN pg_class AS c ON c.oid = to_regclass(name)
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT has_table_privilege(c.oid, privilege)
GROUP BY n.nspname, c.relname
ORDER BY n.nspname, c.relname
