-- Inserts the quotes of posts that repair_quotes_find.sql found, if the posts still exist and still quote a record.
-- $1 uri text[], sorted
-- Safe twice: a conflict does nothing. Only rows actually inserted are returned, and counters follow them.
-- Locks: the posts, in uri order, against changes and deletes until the end of the transaction; then new rows of
-- quotes.
WITH quoting AS (
    SELECT uri, cid, created_at, indexed_at,
        CASE coalesce(embed ->> '$type', embed ->> 'py_type')
            WHEN 'app.bsky.embed.record' THEN embed -> 'record'
            WHEN 'app.bsky.embed.recordWithMedia' THEN embed #> '{record,record}'
        END AS record
    FROM posts
    WHERE uri = ANY($1::text[])
    ORDER BY uri
    FOR SHARE
)
INSERT INTO quotes (uri, cid, post_uri, quoted_uri, quoted_cid, created_at, indexed_at)
SELECT uri || '#quote', cid, uri, record ->> 'uri',
    CASE WHEN jsonb_typeof(record -> 'cid') = 'string' AND length(record ->> 'cid') <= 255 THEN record ->> 'cid' END,
    created_at, indexed_at
FROM quoting
WHERE starts_with(record ->> 'uri', 'at://') AND length(record ->> 'uri') <= 512
ON CONFLICT DO NOTHING
RETURNING quoted_uri
