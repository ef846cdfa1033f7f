-- Finds the unique keys that are missing for ON CONFLICT, with the statement that creates each of them.
-- $1 table, with a schema or found by search_path  $2 columns of a key, separated by ', '  $3 statement that creates
-- the key: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT format('%s has no unique key on (%s)', full_name, wanted.columns) AS found,
    CASE
        WHEN NOT parts <@ string_to_array(wanted.columns, ', ') THEN format(
            'the table is partitioned by (%s), and a key across partitions must contain all of these columns: partition it '
                'by HASH (%s), or not at all',
            array_to_string(parts, ', '), split_part(wanted.columns, ', ', 1)
        )
        -- Under a name that PostgreSQL chooses if another index has the name, or another key is the primary key.
        WHEN EXISTS (
            SELECT FROM pg_class AS x
            WHERE x.relnamespace = c.relnamespace AND x.relkind IN ('i', 'I')
                AND strpos(wanted.statement, ' ' || x.relname || ' ') > 0
        ) OR wanted.statement LIKE '%PRIMARY KEY%'
            AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
        THEN format('CREATE UNIQUE INDEX ON %s (%s)', full_name, wanted.columns)
        ELSE regexp_replace(wanted.statement, ' (TABLE|ON) ' || wanted.name || ' ', ' \1 ' || full_name || ' ')
    END AS remedy
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (name, columns, statement)
JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL format('%I.%I', n.nspname, c.relname) AS full_name
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(a.attname::text), '{}') AS parts
    FROM pg_partitioned_table AS p
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY(p.partattrs::smallint[])
    WHERE p.partrelid = c.oid
) AS partitioned
WHERE NOT EXISTS (
    SELECT
    FROM pg_index AS i
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text) AS columns
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS key (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = key.attnum
        WHERE key.place <= i.indnkeyatts
    ) AS key
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indpred IS NULL AND i.indexprs IS NULL
        AND key.columns @> string_to_array(wanted.columns, ', ')
        AND key.columns <@ string_to_array(wanted.columns, ', ')
)
