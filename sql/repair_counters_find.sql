-- Counts the rows of each subject of a slice. Finds subjects whose counters differ, and posts without counters.
-- $1 last subject of the previous slice  $2 last subject of this slice
-- Safe twice: reads only. A single snapshot sees either both or neither of a row and its count, which a worker commits
-- together.
-- Returns the number of subjects, repeated with each wrong subject. If there are none, the subject is NULL.
-- Locks: none.
WITH counted AS MATERIALIZED (
    SELECT subject,
        count(*) FILTER (WHERE kind = 'like') AS likes,
        count(*) FILTER (WHERE kind = 'repost') AS reposts,
        count(*) FILTER (WHERE kind = 'reply') AS replies,
        count(*) FILTER (WHERE kind = 'bookmark') AS bookmarks,
        count(*) FILTER (WHERE kind = 'quote') AS quotes,
        bool_or(kind = 'post') AS is_post
    FROM (
        SELECT post_uri AS subject, 'like' AS kind FROM likes WHERE post_uri > $1::text AND post_uri <= $2::text
        UNION ALL
        SELECT post_uri, 'counters' FROM post_aggregations WHERE post_uri > $1::text AND post_uri <= $2::text
        UNION ALL
        SELECT uri, 'post' FROM posts WHERE uri > $1::text AND uri <= $2::text
        UNION ALL
        SELECT parent_uri, 'reply' FROM posts WHERE parent_uri > $1::text AND parent_uri <= $2::text
        UNION ALL
        SELECT post_uri, 'repost' FROM reposts WHERE post_uri > $1::text AND post_uri <= $2::text
        UNION ALL
        SELECT post_uri, 'bookmark' FROM bookmarks WHERE post_uri > $1::text AND post_uri <= $2::text
        UNION ALL
        SELECT quoted_uri, 'quote' FROM quotes WHERE quoted_uri > $1::text AND quoted_uri <= $2::text
    ) AS entry
    WHERE starts_with(subject, 'at://')
    GROUP BY subject
), wrong AS (
    SELECT c.subject,
        ARRAY[c.likes, c.reposts, c.replies, c.bookmarks, c.quotes] AS counted,
        ARRAY[a.like_count, a.repost_count, a.reply_count, a.bookmark_count, a.quote_count]::bigint[] AS stored
    FROM counted AS c
    LEFT JOIN post_aggregations AS a ON a.post_uri = c.subject
    WHERE a.post_uri IS NULL AND c.is_post
        OR (c.likes, c.reposts, c.replies, c.bookmarks, c.quotes)
            IS DISTINCT FROM
            (coalesce(a.like_count, 0), coalesce(a.repost_count, 0), coalesce(a.reply_count, 0),
                coalesce(a.bookmark_count, 0), coalesce(a.quote_count, 0))
)
SELECT total.n, wrong.subject::text AS subject, wrong.counted, wrong.stored
FROM (SELECT count(*) AS n FROM counted) AS total
LEFT JOIN wrong ON true
