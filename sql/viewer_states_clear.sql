-- Takes likes, reposts and bookmarks that are gone out of viewer states.
-- $1 post_uri  $2 viewer_did  $3 like_uri  $4 repost_uri  $5 is_bookmark: arrays of one length, sorted; the uri of what
-- is gone, or NULL A state is found as the first from its key on in the order of the key's own index, and written by
-- way of the conflict on that index: by an equality the planner may take the index of post_uri or of viewer_did alone,
-- and read all that a post or an account has. Returns how many rows somebody else deleted between the two, and were so
-- inserted with what is gone: for those, run it again. Such a row is told by its updated_at, which that run sets: a
-- partitioned table tells no xmax.
-- Safe twice: a field is cleared only while it names what is gone.
-- Locks: rows in the order of post and viewer, those of the repos at hand.
WITH written AS (
    INSERT INTO post_viewer_states AS s (post_uri, viewer_did, like_uri, repost_uri, bookmarked, updated_at)
    SELECT gone.post_uri, gone.viewer_did, gone.like_uri, gone.repost_uri, gone.is_bookmark, '-infinity'::timestamp
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
            AS gone (post_uri, viewer_did, like_uri, repost_uri, is_bookmark),
        LATERAL (
            SELECT post_uri, viewer_did
            FROM post_viewer_states
            WHERE (post_uri, viewer_did) >= (gone.post_uri, gone.viewer_did)
            ORDER BY post_uri, viewer_did
            LIMIT 1
        ) AS found
    WHERE (found.post_uri, found.viewer_did) = (gone.post_uri, gone.viewer_did)
    ON CONFLICT (post_uri, viewer_did) DO UPDATE
    SET like_uri = CASE WHEN s.like_uri = excluded.like_uri THEN NULL ELSE s.like_uri END,
        repost_uri = CASE WHEN s.repost_uri = excluded.repost_uri THEN NULL ELSE s.repost_uri END,
        bookmarked = s.bookmarked AND NOT excluded.bookmarked,
        updated_at = now()
    WHERE s.like_uri = excluded.like_uri OR s.repost_uri = excluded.repost_uri OR s.bookmarked AND excluded.bookmarked
    RETURNING updated_at = '-infinity' AS is_new
)
SELECT count(*) FROM written WHERE is_new
