-- Deletes viewer states that stand for no like, repost or bookmark. A state of a local account that mutes or pins the
-- post stays.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- The rows are found by their ctid, which cannot change, because prune_states_lock.sql has locked them; the key is
-- compared too, because partitions may have rows of the same ctid. A pair is looked up as the first row from it on, in
-- the order of the pair's own index; see prune_states_find.sql.
-- Safe twice: a deleted row stays deleted.
-- Locks: rows that prune_states_lock.sql has locked in an earlier statement. A transaction that inserted a row of such a
-- pair has either committed, and its row is found here, or it inserts the state again after this transaction.
WITH doomed AS MATERIALIZED (
    SELECT s.place, s.post_uri || ' ' || s.viewer_did AS key
    FROM unnest($1::text[], $2::text[]) AS key (post_uri, viewer_did)
        JOIN LATERAL (
            SELECT ctid AS place, post_uri, viewer_did, thread_muted OR pinned AS says_more
            FROM post_viewer_states
            WHERE (post_uri, viewer_did) >= (key.post_uri, key.viewer_did)
            ORDER BY post_uri, viewer_did
            LIMIT 1
        ) AS s ON (s.post_uri, s.viewer_did) = (key.post_uri, key.viewer_did)
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM likes
            WHERE (user_did, post_uri) >= (key.viewer_did, key.post_uri) ORDER BY user_did, post_uri LIMIT 1
        ) AS l ON (l.user_did, l.post_uri) = (key.viewer_did, key.post_uri)
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM reposts
            WHERE (user_did, post_uri) >= (key.viewer_did, key.post_uri) ORDER BY user_did, post_uri LIMIT 1
        ) AS r ON (r.user_did, r.post_uri) = (key.viewer_did, key.post_uri)
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM bookmarks
            WHERE (user_did, post_uri) >= (key.viewer_did, key.post_uri) ORDER BY user_did, post_uri LIMIT 1
        ) AS b ON (b.user_did, b.post_uri) = (key.viewer_did, key.post_uri)
        LEFT JOIN LATERAL (
            SELECT did FROM firehose_worker.local_dids WHERE did = key.viewer_did LIMIT 1
        ) AS account ON true
    WHERE l.post_uri IS NULL AND r.post_uri IS NULL AND b.post_uri IS NULL
        AND NOT (account.did IS NOT NULL AND s.says_more)
)
DELETE FROM post_viewer_states AS s
WHERE s.ctid = ANY(ARRAY(SELECT place FROM doomed))
    AND s.post_uri || ' ' || s.viewer_did = ANY(ARRAY(SELECT key FROM doomed))
