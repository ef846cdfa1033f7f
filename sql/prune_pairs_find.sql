-- Reads likes, reposts and bookmarks of posts, except those by local accounts.
-- $1 post_uri text[]  $2 limit of indexed_at  $3 number of rows
-- Safe twice: reads only.
-- Locks: none; the rows are locked when they are deleted.
SELECT found.table_name, found.uri, found.key_a, found.key_b
FROM (
        SELECT 'likes' AS table_name, uri::text, user_did::text AS key_a, post_uri::text AS key_b
        FROM likes
        WHERE post_uri = ANY($1::text[]) AND indexed_at < $2::timestamp
        UNION ALL
        SELECT 'reposts', uri, user_did, post_uri
        FROM reposts
        WHERE post_uri = ANY($1::text[]) AND indexed_at < $2::timestamp
        UNION ALL
        SELECT 'bookmarks', uri, user_did, post_uri
        FROM bookmarks
        WHERE post_uri = ANY($1::text[]) AND indexed_at < $2::timestamp
    ) AS found
    LEFT JOIN LATERAL (
        SELECT did FROM firehose_worker.local_dids WHERE did = found.key_a LIMIT 1
    ) AS account ON true
WHERE account.did IS NULL
LIMIT $3::bigint
