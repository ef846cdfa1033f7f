-- Finds the tables from which row-level security hides rows, or would hide them if row_security were on.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT format(
        'it would hide rows of %s from the role %I, and the worker waits instead',
        string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname), current_user
    ) AS found,
    format('ALTER ROLE %I BYPASSRLS', current_user) AS remedy
FROM unnest($1::text[]) AS name
JOIN pg_class AS c ON c.oid = to_regclass(name)
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE row_security_active(c.oid)
HAVING count(*) > 0
