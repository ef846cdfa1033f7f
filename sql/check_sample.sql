-- Reads a column of some rows, those of pages that PostgreSQL picks at random.
-- No parameters. {column}, {table} and {percent}, the share of the pages, stand for what the caller asks about.
-- Safe twice: reads only.
-- Locks: ACCESS SHARE on the table. Reads about 200 pages however large the table is.
SELECT {column}::text AS value FROM {table} TABLESAMPLE SYSTEM ({percent}) LIMIT 10000
