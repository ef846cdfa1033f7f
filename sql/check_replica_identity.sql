-- Finds the tables whose rows PostgreSQL refuses to update or delete. A publication sends these changes, but the table
-- has no replica identity by which subscribers could find the row. In a partitioned table, each partition needs one.
-- $1 table name text[], with a schema or found by search_path
-- Safe twice: reads only.
-- Locks: none.
SELECT DISTINCT
    format('%I.%I is published and has none: PostgreSQL refuses to update and delete its rows', n.nspname, c.relname) AS found,
    format('ALTER TABLE %I.%I REPLICA IDENTITY ', n.nspname, c.relname) || CASE
        WHEN has_primary_key THEN 'DEFAULT'
        ELSE coalesce((
            SELECT format('USING INDEX %I', min(x.relname))
            FROM pg_index AS i
            JOIN pg_class AS x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                AND i.indpred IS NULL AND i.indexprs IS NULL
                AND NOT EXISTS (
                    SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey) AND NOT a.attnotnull
                )
            HAVING count(*) > 0
        ), 'FULL')
    END AS remedy
FROM unnest($1::text[]) AS tables (name)
CROSS JOIN LATERAL (
    SELECT to_regclass(tables.name)::oid AS oid
    UNION
    SELECT relid FROM pg_partition_tree(to_regclass(tables.name)) WHERE isleaf
) AS member
JOIN pg_class AS c ON c.oid = member.oid AND c.relkind = 'r'
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
) AS p (has_primary_key)
WHERE CASE c.relreplident
        WHEN 'f' THEN false
        WHEN 'd' THEN NOT has_primary_key
        WHEN 'i' THEN NOT EXISTS (
            SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid
        )
        ELSE true
    END
    AND EXISTS (
        SELECT
        FROM pg_publication AS p
        JOIN pg_publication_tables AS t ON t.pubname = p.pubname
        JOIN pg_namespace AS of_schema ON of_schema.nspname = t.schemaname
        JOIN pg_class AS published ON published.relnamespace = of_schema.oid AND published.relname = t.tablename
        WHERE (p.pubupdate OR p.pubdelete)
            AND published.oid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid))
    )
ORDER BY 1
