-- Writes likes, reposts and bookmarks into viewer states. Fields that are not given keep their values.
-- $1 post_uri  $2 viewer_did  $3 like_uri  $4 repost_uri  $5 is_bookmark: arrays of one length, sorted; NULL and false
-- if not given
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Locks: rows in the order of post and viewer; they belong to the repos of this batch.
INSERT INTO post_viewer_states AS s (post_uri, viewer_did, like_uri, repost_uri, bookmarked)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
ON CONFLICT (post_uri, viewer_did) DO UPDATE
SET like_uri = coalesce(excluded.like_uri, s.like_uri),
    repost_uri = coalesce(excluded.repost_uri, s.repost_uri),
    bookmarked = s.bookmarked OR excluded.bookmarked,
    updated_at = now()
WHERE s.like_uri IS DISTINCT FROM coalesce(excluded.like_uri, s.like_uri)
    OR s.repost_uri IS DISTINCT FROM coalesce(excluded.repost_uri, s.repost_uri)
    OR excluded.bookmarked AND NOT s.bookmarked
