-- Finds the end of a slice of subjects, so that no table has more than $2 rows in it, apart from rows of the last
-- subject.
-- $1 last subject of the previous slice  $2 number of rows
-- Safe twice: reads only. Returns no row if there are no subjects after $1.
-- Locks: none.
WITH subjects_end AS (
    SELECT max(last) AS last
    FROM (
        SELECT max(post_uri) AS last FROM likes
        UNION ALL SELECT max(post_uri) FROM post_aggregations
        UNION ALL SELECT max(uri) FROM posts
        UNION ALL SELECT max(parent_uri) FROM posts
        UNION ALL SELECT max(post_uri) FROM reposts
        UNION ALL SELECT max(post_uri) FROM bookmarks
        UNION ALL SELECT max(quoted_uri) FROM quotes
    ) AS ends
-- Each step reads no further than the previous one, so the table with the most rows comes first.
), of_likes AS MATERIALIZED (
    SELECT coalesce((
        SELECT post_uri FROM likes WHERE post_uri > $1::text AND post_uri <= before.last
        ORDER BY post_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM subjects_end AS before
), of_aggregations AS MATERIALIZED (
    SELECT coalesce((
        SELECT post_uri FROM post_aggregations WHERE post_uri > $1::text AND post_uri <= before.last
        ORDER BY post_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_likes AS before
), of_posts AS MATERIALIZED (
    SELECT coalesce((
        SELECT uri FROM posts WHERE uri > $1::text AND uri <= before.last
        ORDER BY uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_aggregations AS before
), of_replies AS MATERIALIZED (
    SELECT coalesce((
        SELECT parent_uri FROM posts WHERE parent_uri > $1::text AND parent_uri <= before.last
        ORDER BY parent_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_posts AS before
), of_reposts AS MATERIALIZED (
    SELECT coalesce((
        SELECT post_uri FROM reposts WHERE post_uri > $1::text AND post_uri <= before.last
        ORDER BY post_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_replies AS before
), of_bookmarks AS MATERIALIZED (
    SELECT coalesce((
        SELECT post_uri FROM bookmarks WHERE post_uri > $1::text AND post_uri <= before.last
        ORDER BY post_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_reposts AS before
), of_quotes AS MATERIALIZED (
    SELECT coalesce((
        SELECT quoted_uri FROM quotes WHERE quoted_uri > $1::text AND quoted_uri <= before.last
        ORDER BY quoted_uri OFFSET $2::bigint - 1 LIMIT 1
    ), before.last) AS last
    FROM of_bookmarks AS before
)
SELECT last::text AS last FROM of_quotes WHERE last > $1::text
