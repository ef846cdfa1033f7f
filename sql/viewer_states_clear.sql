-- Removes deleted likes, reposts and bookmarks from viewer states.
-- $1 post_uri  $2 viewer_did  $3 like_uri  $4 repost_uri  $5 is_bookmark: arrays of one length, sorted; the uri of the
-- deleted record, or NULL
-- A state is looked up as the first from its key on, in the order of the key's own index, and written through a
-- conflict on that index. With an equality, the planner might choose the index of post_uri or of viewer_did alone and
-- read every state of a post or an account.
-- Returns the number of rows that another transaction deleted between the lookup and the write. Such a row was
-- inserted again with the deleted records; run the statement again to clear it. The row is recognised by its
-- updated_at, which the second run sets. A partitioned table does not return xmax.
-- Safe twice: a field is cleared only while it names the deleted record.
-- Locks: rows in the order of post and viewer; they belong to the repos of this batch.
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
