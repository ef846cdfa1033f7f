-- Locks the users whose handles and profiles change, and the users whose handle is assigned to another user. Creates
-- those of the former that do not exist. The AppView may delete users at any time, so later statements can rely on a
-- row only while it is locked.
-- $1 did text[], $4 indexed_at timestamp[]: users to create  $2 did text[]: users to lock if they exist
-- $3 handle text[]: handles whose users are locked
-- Safe twice: an existing user is not changed.
-- Locks: rows in did order. Later statements change only users that are locked here.
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
