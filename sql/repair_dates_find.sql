-- Finds the rows of a slice of one table that are dated before the year 0100, which readers misread as another year.
-- $1 table  $2 key of the last row of the previous slice  $3 number of rows in a slice
-- The planner removes every branch except that of the table.
-- Safe twice: reads only.
-- Returns the number of rows in the slice and its last key, repeated with each row found. If there are none, its key
-- is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    (SELECT uri AS key, created_at AS dated FROM posts
        WHERE $1::text = 'posts' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM likes
        WHERE $1::text = 'likes' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM reposts
        WHERE $1::text = 'reposts' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM bookmarks
        WHERE $1::text = 'bookmarks' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM follows
        WHERE $1::text = 'follows' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM blocks
        WHERE $1::text = 'blocks' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM list_blocks
        WHERE $1::text = 'list_blocks' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM list_items
        WHERE $1::text = 'list_items' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM lists
        WHERE $1::text = 'lists' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM feed_generators
        WHERE $1::text = 'feed_generators' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM starter_packs
        WHERE $1::text = 'starter_packs' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM labeler_services
        WHERE $1::text = 'labeler_services' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM labels
        WHERE $1::text = 'labels' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, least(created_at, verified_at) AS dated FROM verifications
        WHERE $1::text = 'verifications' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM quotes
        WHERE $1::text = 'quotes' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM notifications
        WHERE $1::text = 'notifications' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, least(created_at, sort_at) AS dated FROM feed_items
        WHERE $1::text = 'feed_items' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, created_at AS dated FROM generic_records
        WHERE $1::text = 'generic_records' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT post_uri, created_at FROM thread_gates
        WHERE $1::text = 'thread_gates' AND post_uri > $2::text ORDER BY post_uri LIMIT $3::bigint)
    UNION ALL
    (SELECT post_uri, created_at FROM post_gates
        WHERE $1::text = 'post_gates' AND post_uri > $2::text ORDER BY post_uri LIMIT $3::bigint)
)
SELECT total.n, total.last_key, ancient.key
FROM (SELECT count(*) AS n, max(key) AS last_key FROM slice) AS total
LEFT JOIN (SELECT key FROM slice WHERE dated < '0100-01-01') AS ancient ON true
