-- Fills the AppView's tables with :rows rows, in about the proportions that the stream leaves behind.
-- Nothing of it collides with made-up events; counters are plausible, not counted. :schema is the file that makes the
-- tables: it brings back the indexes, which are built at once, since that is many times faster than row by row.
SET work_mem = '256MB';
SET maintenance_work_mem = '512MB';
SET client_min_messages = warning;

SELECT :rows * 5 / 100 AS users, :rows * 4 / 100 AS follows, :rows * 7 / 100 AS posts, :rows * 2 / 100 AS reposts,
    :rows * 20 / 100 AS likes, :rows * 28 / 100 AS notifications,
    (extract(epoch FROM now() - interval '30 days') * 1000000)::bigint AS first_micros
\gset

CREATE FUNCTION pg_temp.did(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT 'did:plc:' || left(translate(md5(n::text), '0189', 'wxyz'), 24)$$;

-- 13 characters that sort by time.
CREATE FUNCTION pg_temp.tid(micros bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT translate(lpad(to_hex(micros), 13, '0'), '0123456789abcdef', '234567abcdefghij')$$;

CREATE FUNCTION pg_temp.uri(owner bigint, collection text, micros bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT 'at://' || pg_temp.did(owner) || '/' || collection || '/' || pg_temp.tid(micros)$$;

CREATE FUNCTION pg_temp.cid(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT 'bafyrei' || left(translate(md5(n::text) || md5((-n)::text), '0189', 'wxyz'), 52)$$;

CREATE FUNCTION pg_temp.at(micros bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$SELECT timestamp '1970-01-01' + micros * interval '1 microsecond'$$;

SELECT format('DROP INDEX %I', indexname)
FROM pg_indexes
WHERE schemaname = 'public' AND indexname NOT IN (SELECT conname FROM pg_constraint)
\gexec

INSERT INTO users (did, handle, display_name)
SELECT pg_temp.did(n), 'user' || n || '.example.com', 'User ' || n
FROM generate_series(1::bigint, :users) AS n;

INSERT INTO posts (uri, cid, author_did, text, langs, parent_uri, root_uri, created_at, commit_seq)
SELECT pg_temp.uri(owner, 'app.bsky.feed.post', micros), pg_temp.cid(n), pg_temp.did(owner),
    left(repeat(md5(n::text) || ' ', 9), (20 + n * 7 % 260)::integer), '["en"]', parent, parent,
    pg_temp.at(micros), n::text
FROM generate_series(1::bigint, :posts) AS n,
    LATERAL (SELECT 1 + n % :users AS owner, :first_micros + n * 1000 AS micros) AS own,
    LATERAL (
        SELECT pg_temp.uri(1 + (n - 5) % :users, 'app.bsky.feed.post', :first_micros + (n - 5) * 1000) AS earlier
    ) AS before,
    LATERAL (SELECT CASE WHEN n % 5 < 2 AND n > 5 THEN earlier END AS parent) AS other;

INSERT INTO post_aggregations (post_uri, like_count, repost_count, reply_count)
SELECT uri, n % 7, n % 3, n % 2
FROM (SELECT uri, row_number() OVER () AS n FROM posts) AS numbered;

-- The k-th like of each user; steps of a prime number reach another post each time.
INSERT INTO likes (uri, user_did, post_uri, subject_cid, created_at, commit_seq)
SELECT pg_temp.uri(owner, 'app.bsky.feed.like', micros), pg_temp.did(owner),
    pg_temp.uri(1 + post % :users, 'app.bsky.feed.post', :first_micros + post * 1000), pg_temp.cid(post),
    pg_temp.at(micros), n::text
FROM generate_series(1::bigint, :likes) AS n,
    LATERAL (SELECT 1 + n % :users AS owner, :first_micros + n * 400 AS micros,
        1 + (n % :users * 7919 + n / :users * 104729) % :posts AS post) AS own;

INSERT INTO post_viewer_states (post_uri, viewer_did, like_uri)
SELECT post_uri, user_did, uri FROM likes;

INSERT INTO reposts (uri, user_did, post_uri, subject_cid, created_at, commit_seq)
SELECT replace(uri, 'feed.like', 'feed.repost'), user_did, post_uri, subject_cid, created_at, commit_seq
FROM likes
LIMIT :reposts;

INSERT INTO feed_items (uri, post_uri, originator_did, type, sort_at, cid, created_at)
SELECT uri, uri, author_did, 'post', created_at, cid, created_at FROM posts
UNION ALL
SELECT uri, post_uri, user_did, 'repost', created_at, subject_cid, created_at FROM reposts;

INSERT INTO follows (uri, follower_did, following_did, created_at, commit_seq)
SELECT pg_temp.uri(owner, 'app.bsky.graph.follow', micros), pg_temp.did(owner), pg_temp.did(1 + other % :users),
    pg_temp.at(micros), n::text
FROM generate_series(1::bigint, :follows) AS n,
    LATERAL (SELECT 1 + n % :users AS owner, :first_micros + n * 1700 AS micros,
        n % :users + n / :users * 7919 + 1 AS other) AS own;

INSERT INTO notifications (uri, recipient_did, author_did, reason, reason_subject, cid, created_at)
SELECT pg_temp.uri(author, 'app.bsky.feed.like', micros), pg_temp.did(1 + post % :users), pg_temp.did(author), 'like',
    pg_temp.uri(1 + post % :users, 'app.bsky.feed.post', :first_micros + post * 1000), pg_temp.cid(n),
    pg_temp.at(micros)
FROM generate_series(1::bigint, :notifications) AS n,
    LATERAL (SELECT 1 + n % :users AS author, :first_micros + n * 300 AS micros, 1 + n * 7919 % :posts AS post) AS own;

\i :schema
VACUUM ANALYZE;
CHECKPOINT;
