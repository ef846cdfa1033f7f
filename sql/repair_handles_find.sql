-- Finds the handles of a slice of users that several users have, or that are not handles.
-- $1 last handle of the previous slice  $2 number of users in a slice
-- A handle that is the user's DID, which the AppView stores at a login, is ignored.
-- Safe twice: reads only.
-- Returns the number of users in the slice and its last handle, repeated with each handle found. If there are none,
-- the handle is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT handle
    FROM users
    WHERE handle > $1::text AND handle <> 'handle.invalid'
    ORDER BY handle
    LIMIT $2::bigint
), slice_end AS MATERIALIZED (
    SELECT max(handle) AS last_handle FROM slice
), counted AS MATERIALIZED (
    SELECT u.handle, count(*) AS n
    FROM slice_end, users AS u
    WHERE u.handle > $1::text AND u.handle <= slice_end.last_handle AND u.handle <> 'handle.invalid'
    GROUP BY u.handle
)
SELECT total.n, slice_end.last_handle, wrong.handle
FROM slice_end
CROSS JOIN (SELECT sum(n)::bigint AS n FROM counted) AS total
LEFT JOIN (
    SELECT handle FROM counted WHERE n > 1 OR handle ~ '[^A-Za-z0-9.-]' AND NOT starts_with(handle, 'did:')
) AS wrong ON true
