-- Writes likes, reposts and bookmarks into viewer states; fields that are not given stay.
-- $1 post_uri  $2 viewer_did  $3 like_uri  $4 repost_uri  $5 is_bookmark: arrays of one length, sorted; NULL and false
-- where not given
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows in the order of post and viewer, those of the repos at hand.
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
