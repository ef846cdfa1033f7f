-- Sets counters from the rows, for subjects of rows that somebody else made or deleted, counted or not.
-- $1 post_uri text[], sorted
-- Safe twice: the values are absolute.
-- Locks: rows that counters_add.sql locked already, a statement before: whoever changed such a subject's rows has either
-- committed, and is seen here, or waits for that lock to add its difference.
UPDATE post_aggregations AS a
SET like_count = counted.likes, repost_count = counted.reposts, reply_count = counted.replies,
    bookmark_count = counted.bookmarks, quote_count = counted.quotes
FROM (
    SELECT post_uri,
        (SELECT count(*) FROM likes WHERE likes.post_uri = subject.post_uri) AS likes,
        (SELECT count(*) FROM reposts WHERE reposts.post_uri = subject.post_uri) AS reposts,
        (SELECT count(*) FROM posts WHERE posts.parent_uri = subject.post_uri) AS replies,
        (SELECT count(*) FROM bookmarks WHERE bookmarks.post_uri = subject.post_uri) AS bookmarks,
        (SELECT count(*) FROM quotes WHERE quotes.quoted_uri = subject.post_uri) AS quotes
    FROM unnest($1::text[]) AS subject (post_uri)
) AS counted
WHERE a.post_uri = counted.post_uri
    AND (a.like_count, a.repost_count, a.reply_count, a.bookmark_count, a.quote_count)
        IS DISTINCT FROM
        (counted.likes, counted.reposts, counted.replies, counted.bookmarks, counted.quotes)
