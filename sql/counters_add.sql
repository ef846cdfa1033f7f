-- Adds the batch's changes to the counters of their subjects, and creates the counter rows of new posts.
-- $1 post_uri  $2 likes  $3 reposts  $4 replies  $5 bookmarks  $6 quotes: arrays of one length, sorted by post_uri;
-- differences
-- Safe twice: no, and it need not be: each difference comes from rows inserted or deleted in this transaction.
-- Returns the number of new rows. They are recognised by their updated_at, because a partitioned table does not return
-- xmax.
-- Locks: rows in post_uri order. All workers share these rows, so this is the last statement except
-- counters_recount.sql.
WITH begin AS MATERIALIZED (SELECT clock_timestamp()::timestamp AS at),
written AS (
    INSERT INTO post_aggregations AS a (post_uri, like_count, repost_count, reply_count, bookmark_count, quote_count, updated_at)
    SELECT new.*, (SELECT at FROM begin)
    FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[]) AS new
    ON CONFLICT (post_uri) DO UPDATE
    SET like_count = a.like_count + excluded.like_count,
        repost_count = a.repost_count + excluded.repost_count,
        reply_count = a.reply_count + excluded.reply_count,
        bookmark_count = a.bookmark_count + excluded.bookmark_count,
        quote_count = a.quote_count + excluded.quote_count
    WHERE excluded.like_count <> 0 OR excluded.repost_count <> 0 OR excluded.reply_count <> 0
        OR excluded.bookmark_count <> 0 OR excluded.quote_count <> 0
    RETURNING a.updated_at = (SELECT at FROM begin) AS is_new
)
SELECT count(*) FROM written WHERE is_new
