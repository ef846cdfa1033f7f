-- Leaves each handle to the newest user that has it, and removes texts that are not handles from every user.
-- $1 handle text[], sorted
-- Safe twice: a user that lost the handle no longer has it.
-- Locks: the users that lose their handle, in did order.
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
