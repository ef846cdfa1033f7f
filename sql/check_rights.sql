-- Finds the privileges that the session's role lacks, with the tables that lack the same ones together.
-- $1 table  $2 privilege: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT format('the role %I lacks %s on %s', current_user, privileges, string_agg(name, ', ' ORDER BY name)) AS found,
    format('GRANT %s ON %s TO %I', privileges, string_agg(name, ', ' ORDER BY name), current_user) AS remedy
FROM (
    SELECT format('%I.%I', n.nspname, c.relname) AS name,
        string_agg(DISTINCT needed.privilege, ', ' ORDER BY needed.privilege) AS privileges
    FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
    JOIN pg_class AS c ON c.oid = to_regclass(needed.name)
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT has_table_privilege(c.oid, needed.privilege)
    GROUP BY n.nspname, c.relname
) AS lacking
GROUP BY privileges
ORDER BY privileges
