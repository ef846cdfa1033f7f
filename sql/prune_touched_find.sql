-- Finds the posts that a local account has liked, reposted, bookmarked, quoted or answered, and those that were first
-- indexed at the limit or later.
-- $1 uri text[]  $2 limit of indexed_at
-- Whether an account is local is looked up behind LIMIT, so that the planner does not begin with the local accounts.
-- Safe twice: reads only.
-- Locks: none. A like that is committed after this statement's snapshot does not protect the post.
SELECT subject.uri
FROM unnest($1::text[]) AS subject (uri),
    LATERAL (
        SELECT
        FROM (
                SELECT user_did::text AS did FROM likes WHERE post_uri = subject.uri
                UNION ALL SELECT user_did FROM reposts WHERE post_uri = subject.uri
                UNION ALL SELECT user_did FROM bookmarks WHERE post_uri = subject.uri
                UNION ALL SELECT split_part(post_uri, '/', 3) FROM quotes WHERE quoted_uri = subject.uri
                UNION ALL SELECT author_did FROM posts WHERE parent_uri = subject.uri
            ) AS touch,
            LATERAL (SELECT FROM firehose_worker.local_dids WHERE did = touch.did LIMIT 1) AS account
        LIMIT 1
    ) AS touched
UNION ALL
SELECT uri FROM posts WHERE uri = ANY($1::text[]) AND indexed_at >= $2::timestamp
