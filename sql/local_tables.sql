-- Reads which of the AppView's tables that name accounts it serves exist, and whether the role may read them.
-- $1 name text[]  $2 column text[]: arrays of one length
-- Safe twice: reads only.
-- Locks: none.
SELECT source.name, has_column_privilege(to_regclass(source.name)::oid, a.attnum, 'SELECT') AS is_readable
FROM unnest($1::text[], $2::text[]) AS source (name, did_column)
JOIN pg_attribute AS a
    ON a.attrelid = to_regclass(source.name)::oid AND a.attname = source.did_column AND NOT a.attisdropped
