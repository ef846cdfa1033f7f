-- Sets counters from the rows, for subjects whose rows another program inserted or deleted; it may or may not have
-- counted them.
-- $1 post_uri text[], sorted  $2 likes  $3 reposts  $4 replies  $5 bookmarks  $6 quotes: boolean[], whether to set
-- that counter; counting the others would hold the row's lock for no benefit
-- Safe twice: the values are absolute.
-- Locks: rows that counters_add.sql has already locked in the previous statement. A transaction that changed rows of
-- such a subject has either committed, and its rows are counted here, or it waits for that lock to add its difference.
UPDATE post_aggregations AS a
SET like_count = coalesce(counted.likes, a.like_count),
    repost_count = coalesce(counted.reposts, a.repost_count),
    reply_count = coalesce(counted.replies, a.reply_count),
    bookmark_count = coalesce(counted.bookmarks, a.bookmark_count),
    quote_count = coalesce(counted.quotes, a.quote_count)
FROM (
    SELECT post_uri,
        CASE WHEN likes THEN (SELECT count(*) FROM likes WHERE post_uri = subject.post_uri) END AS likes,
        CASE WHEN reposts THEN (SELECT count(*) FROM reposts WHERE post_uri = subject.post_uri) END AS reposts,
        CASE WHEN replies THEN (SELECT count(*) FROM posts WHERE parent_uri = subject.post_uri) END AS replies,
        CASE WHEN bookmarks THEN (SELECT count(*) FROM bookmarks WHERE post_uri = subject.post_uri) END AS bookmarks,
        CASE WHEN quotes THEN (SELECT count(*) FROM quotes WHERE quoted_uri = subject.post_uri) END AS quotes
    FROM unnest($1::text[], $2::boolean[], $3::boolean[], $4::boolean[], $5::boolean[], $6::boolean[])
        AS subject (post_uri, likes, reposts, replies, bookmarks, quotes)
) AS counted
WHERE a.post_uri = counted.post_uri
    AND (a.like_count, a.repost_count, a.reply_count, a.bookmark_count, a.quote_count)
        IS DISTINCT FROM
        (coalesce(counted.likes, a.like_count), coalesce(counted.reposts, a.repost_count),
            coalesce(counted.replies, a.reply_count), coalesce(counted.bookmarks, a.bookmark_count),
            coalesce(counted.quotes, a.quote_count))
