-- Sets the CIDs of pictures, or NULL, where the stored value is still the one found.
-- $1 table  $2 key  $3 is_banner  $4 value found  $5 CID: arrays of one length, sorted by key
-- Safe twice: the values are absolute.
-- Locks: the rows.
WITH new AS (
    SELECT *
    FROM unnest($2::text[], $3::boolean[], $4::text[], $5::text[]) AS new (key, is_banner, stored, cid)
), avatars AS (
    UPDATE users AS u
    SET avatar_url = new.cid
    FROM new
    WHERE $1::text = 'users' AND u.did = new.key AND NOT new.is_banner AND u.avatar_url = new.stored
    RETURNING u.did
), of_lists AS (
    UPDATE lists AS l
    SET avatar_url = new.cid
    FROM new
    WHERE $1::text = 'lists' AND l.uri = new.key AND l.avatar_url = new.stored
    RETURNING l.uri
), of_feeds AS (
    UPDATE feed_generators AS f
    SET avatar_url = new.cid
    FROM new
    WHERE $1::text = 'feed_generators' AND f.uri = new.key AND f.avatar_url = new.stored
    RETURNING f.uri
)
SELECT count(*)
FROM (
    SELECT FROM avatars
    UNION ALL
    SELECT FROM of_lists
    UNION ALL
    SELECT FROM of_feeds
) AS written
