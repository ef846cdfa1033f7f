-- Locks the users that handles and profiles change and those who have a handle that is given to somebody else, and makes
-- those that are not there. The AppView may delete users at any time, so what follows finds them only while they are
-- locked.
-- $1 did text[], $4 indexed_at timestamp[]: users to be made  $2 did text[]: users to be locked where they are there
-- $3 handle text[]
-- Safe twice: a user who is there is left as they are.
-- Locks: rows in did order. Whatever the statements after it change of users is locked here.
INSERT INTO users AS u (did, handle, indexed_at)
SELECT did, 'handle.invalid', coalesce(max(indexed_at), date_trunc('milliseconds', now())::timestamp)
FROM (
    SELECT * FROM unnest($1::text[], $4::timestamp[]) AS made (did, indexed_at)
    UNION ALL
    SELECT did, NULL FROM users WHERE did = ANY($2::text[])
    UNION ALL
    SELECT did, NULL FROM users WHERE handle = ANY($3::text[])
) AS changed
GROUP BY did
ORDER BY did
ON CONFLICT (did) DO UPDATE SET handle = u.handle WHERE false
