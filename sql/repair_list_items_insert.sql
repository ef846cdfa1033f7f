-- Gives pairs that were held by other accounts' items to the first remembered item of the list's owner, unless the
-- owner forbids data collection.
-- $1 key_a  $2 key_b: arrays of one length
-- Safe twice: a pair that has a row by then is left unchanged.
-- Locks: new rows, after repair_list_items_lock.sql.
INSERT INTO list_items (uri, cid, list_uri, subject_did, created_at)
SELECT DISTINCT ON (r.key_a, r.key_b) r.uri, r.cid, r.key_a, r.key_b, r.created_at
FROM unnest($1::text[], $2::text[]) AS pair (key_a, key_b)
JOIN firehose_worker.rivals AS r ON r.key_a = pair.key_a AND r.key_b = pair.key_b
WHERE r.table_name = 'list_items' AND split_part(r.key_a, '/', 3) = split_part(r.uri, '/', 3)
    AND NOT coalesce((
        SELECT data_collection_forbidden FROM user_settings WHERE user_did = split_part(r.uri, '/', 3)
    ), false)
ORDER BY r.key_a, r.key_b, r.entry_ms, r.entry_n, r.op, r.uri
ON CONFLICT DO NOTHING
