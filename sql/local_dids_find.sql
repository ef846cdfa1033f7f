-- Finds the accounts to add to the local ones, and those whose row does not say that they were named since yesterday.
-- $1 did text[], those of LOCAL_DIDS. {sources} stands for the AppView's tables that exist.
-- Safe twice: reads only.
-- Locks: none.
SELECT DISTINCT named.did, l.did IS NULL AS is_new
FROM (
    SELECT unnest($1::text[]) AS did
    {sources}
) AS named
LEFT JOIN firehose_worker.local_dids AS l ON l.did = named.did
WHERE (l.did IS NULL OR l.seen_at < now() - interval '1 day')
    AND named.did LIKE 'did:%' AND length(named.did) <= 255
ORDER BY is_new DESC
LIMIT 10000
