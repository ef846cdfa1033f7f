-- Takes likes, reposts and bookmarks that are gone out of viewer states.
-- $1 post_uri  $2 viewer_did  $3 like_uri  $4 repost_uri  $5 is_bookmark: arrays of one length, sorted; the uri of what is gone, or NULL
-- Safe twice: a field is cleared only while it names what is gone.
-- Locks: rows in the order of post and viewer, those of the repos at hand.
UPDATE post_viewer_states AS s
SET like_uri = CASE WHEN s.like_uri = gone.like_uri THEN NULL ELSE s.like_uri END,
    repost_uri = CASE WHEN s.repost_uri = gone.repost_uri THEN NULL ELSE s.repost_uri END,
    bookmarked = s.bookmarked AND NOT gone.is_bookmark,
    updated_at = now()
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
    AS gone (post_uri, viewer_did, like_uri, repost_uri, is_bookmark)
WHERE s.post_uri = gone.post_uri AND s.viewer_did = gone.viewer_did
    AND (s.like_uri = gone.like_uri OR s.repost_uri = gone.repost_uri OR s.bookmarked AND gone.is_bookmark)
