-- Sets the dates of rows of one table that are dated before the year 0100 to the time at which they were written. No
-- better date is known.
-- $1 table  $2 key text[], sorted
-- Safe twice: a row that has another date by then is left unchanged.
-- Locks: the rows.
WITH of_posts AS (
    UPDATE posts
    SET created_at = indexed_at
    WHERE $1::text = 'posts' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_likes AS (
    UPDATE likes
    SET created_at = indexed_at
    WHERE $1::text = 'likes' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_reposts AS (
    UPDATE reposts
    SET created_at = indexed_at
    WHERE $1::text = 'reposts' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_bookmarks AS (
    UPDATE bookmarks
    SET created_at = indexed_at
    WHERE $1::text = 'bookmarks' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_follows AS (
    UPDATE follows
    SET created_at = indexed_at
    WHERE $1::text = 'follows' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_blocks AS (
    UPDATE blocks
    SET created_at = indexed_at
    WHERE $1::text = 'blocks' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_list_blocks AS (
    UPDATE list_blocks
    SET created_at = indexed_at
    WHERE $1::text = 'list_blocks' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_list_items AS (
    UPDATE list_items
    SET created_at = indexed_at
    WHERE $1::text = 'list_items' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_lists AS (
    UPDATE lists
    SET created_at = indexed_at
    WHERE $1::text = 'lists' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_feed_generators AS (
    UPDATE feed_generators
    SET created_at = indexed_at
    WHERE $1::text = 'feed_generators' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_starter_packs AS (
    UPDATE starter_packs
    SET created_at = indexed_at
    WHERE $1::text = 'starter_packs' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_labeler_services AS (
    UPDATE labeler_services
    SET created_at = indexed_at
    WHERE $1::text = 'labeler_services' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_labels AS (
    UPDATE labels
    SET created_at = indexed_at
    WHERE $1::text = 'labels' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_verifications AS (
    UPDATE verifications
    SET created_at = CASE WHEN created_at < '0100-01-01' THEN indexed_at ELSE created_at END,
        verified_at = CASE WHEN verified_at < '0100-01-01' THEN indexed_at ELSE verified_at END
    WHERE $1::text = 'verifications' AND uri = ANY($2::text[]) AND (created_at < '0100-01-01' OR verified_at < '0100-01-01')
    RETURNING uri
), of_quotes AS (
    UPDATE quotes
    SET created_at = indexed_at
    WHERE $1::text = 'quotes' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_notifications AS (
    UPDATE notifications
    SET created_at = indexed_at
    WHERE $1::text = 'notifications' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_feed_items AS (
    UPDATE feed_items
    SET created_at = CASE WHEN created_at < '0100-01-01' THEN indexed_at ELSE created_at END,
        sort_at = CASE WHEN sort_at < '0100-01-01' THEN indexed_at ELSE sort_at END
    WHERE $1::text = 'feed_items' AND uri = ANY($2::text[]) AND (created_at < '0100-01-01' OR sort_at < '0100-01-01')
    RETURNING uri
), of_generic_records AS (
    UPDATE generic_records
    SET created_at = indexed_at
    WHERE $1::text = 'generic_records' AND uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING uri
), of_thread_gates AS (
    UPDATE thread_gates
    SET created_at = updated_at
    WHERE $1::text = 'thread_gates' AND post_uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING post_uri
), of_post_gates AS (
    UPDATE post_gates
    SET created_at = now()
    WHERE $1::text = 'post_gates' AND post_uri = ANY($2::text[]) AND created_at < '0100-01-01'
    RETURNING post_uri
)
SELECT count(*)
FROM (
    SELECT FROM of_posts
    UNION ALL
    SELECT FROM of_likes
    UNION ALL
    SELECT FROM of_reposts
    UNION ALL
    SELECT FROM of_bookmarks
    UNION ALL
    SELECT FROM of_follows
    UNION ALL
    SELECT FROM of_blocks
    UNION ALL
    SELECT FROM of_list_blocks
    UNION ALL
    SELECT FROM of_list_items
    UNION ALL
    SELECT FROM of_lists
    UNION ALL
    SELECT FROM of_feed_generators
    UNION ALL
    SELECT FROM of_starter_packs
    UNION ALL
    SELECT FROM of_labeler_services
    UNION ALL
    SELECT FROM of_labels
    UNION ALL
    SELECT FROM of_verifications
    UNION ALL
    SELECT FROM of_quotes
    UNION ALL
    SELECT FROM of_notifications
    UNION ALL
    SELECT FROM of_feed_items
    UNION ALL
    SELECT FROM of_generic_records
    UNION ALL
    SELECT FROM of_thread_gates
    UNION ALL
    SELECT FROM of_post_gates
) AS written
