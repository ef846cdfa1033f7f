-- Leaves each handle to the newest of the users who have it, and what is no handle to none.
-- $1 handle text[], sorted
-- Safe twice: whoever has lost the handle does not have it.
-- Locks: the users who lose it, in did order.
UPDATE users AS u
SET handle = 'handle.invalid'
FROM (
    SELECT did
    FROM users
    WHERE did = ANY(ARRAY(
        SELECT did
        FROM (
            SELECT did, handle, row_number() OVER (PARTITION BY handle ORDER BY created_at DESC, did DESC) AS place
            FROM users
            WHERE handle = ANY($1::text[])
        ) AS ranked
        WHERE place > 1 OR handle ~ '[^A-Za-z0-9.-]'
    ))
    ORDER BY did
    FOR UPDATE
) AS loser
WHERE u.did = loser.did AND u.handle = ANY($1::text[])
