-- Deletes items that an account put into another account's list, including remembered ones.
-- $1 uri text[], sorted
-- Safe twice: an item that by then belongs to its owner's list is kept. Returns the pairs of the items that had a row.
-- Locks: the rows, after repair_list_items_lock.sql.
WITH remembered AS (
    DELETE FROM firehose_worker.rivals
    WHERE uri = ANY($1::text[]) AND table_name = 'list_items' AND split_part(key_a, '/', 3) <> split_part(uri, '/', 3)
    RETURNING uri, NULL::text AS key_a, NULL::text AS key_b
), item AS (
    DELETE FROM list_items
    WHERE uri = ANY($1::text[]) AND split_part(list_uri, '/', 3) <> split_part(uri, '/', 3)
    RETURNING uri, list_uri AS key_a, subject_did AS key_b
)
SELECT uri, max(key_a) AS key_a, max(key_b) AS key_b
FROM (SELECT * FROM remembered UNION ALL SELECT * FROM item) AS gone
GROUP BY uri
