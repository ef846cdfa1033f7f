-- Reads the viewer states of posts that stand for no like, repost or bookmark. A state of a local account that mutes or
-- pins the post is not among them.
-- $1 post_uri text[]  $2 number of rows
-- A pair is looked up as the first row from it on, in the order of the pair's own index. With an equality, the planner
-- might choose the index of a single column and read every row of an account or a subject.
-- Safe twice: reads only.
-- Locks: none; the rows are locked by prune_states_lock.sql and checked again by prune_states_delete.sql.
SELECT s.post_uri, s.viewer_did
FROM post_viewer_states AS s
    LEFT JOIN LATERAL (
        SELECT user_did, post_uri FROM likes
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri) ORDER BY user_did, post_uri LIMIT 1
    ) AS l ON (l.user_did, l.post_uri) = (s.viewer_did, s.post_uri)
    LEFT JOIN LATERAL (
        SELECT user_did, post_uri FROM reposts
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri) ORDER BY user_did, post_uri LIMIT 1
    ) AS r ON (r.user_did, r.post_uri) = (s.viewer_did, s.post_uri)
    LEFT JOIN LATERAL (
        SELECT user_did, post_uri FROM bookmarks
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri) ORDER BY user_did, post_uri LIMIT 1
    ) AS b ON (b.user_did, b.post_uri) = (s.viewer_did, s.post_uri)
    LEFT JOIN LATERAL (
        SELECT did FROM firehose_worker.local_dids WHERE did = s.viewer_did LIMIT 1
    ) AS account ON true
WHERE s.post_uri = ANY($1::text[])
    AND l.post_uri IS NULL AND r.post_uri IS NULL AND b.post_uri IS NULL
    AND NOT (account.did IS NOT NULL AND (s.thread_muted OR s.pinned))
LIMIT $2::bigint
