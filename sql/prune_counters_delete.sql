-- Deletes the counters of posts that are not stored and in which no row counts.
-- $1 post_uri text[], sorted
-- Safe twice: a deleted row stays deleted.
-- Locks: rows that counters_add.sql has locked in an earlier statement. A transaction that inserted a row that counts
-- here has either committed, and its row is found, or it inserts the counters again after this transaction.
DELETE FROM post_aggregations AS a
WHERE a.post_uri = ANY($1::text[])
    AND NOT EXISTS (SELECT FROM posts AS p WHERE p.uri = a.post_uri)
    AND NOT EXISTS (SELECT FROM likes AS l WHERE l.post_uri = a.post_uri)
    AND NOT EXISTS (SELECT FROM reposts AS r WHERE r.post_uri = a.post_uri)
    AND NOT EXISTS (SELECT FROM bookmarks AS b WHERE b.post_uri = a.post_uri)
    AND NOT EXISTS (SELECT FROM posts AS p WHERE p.parent_uri = a.post_uri)
    AND NOT EXISTS (SELECT FROM quotes AS q WHERE q.quoted_uri = a.post_uri)
