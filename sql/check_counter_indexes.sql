-- Counts the indexes on the counters of post_aggregations, all of which PostgreSQL writes whenever a counter changes.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT count(DISTINCT i.indexrelid)
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = to_regclass('post_aggregations') AND a.attname LIKE '%\_count'
