-- Finds the handles of a slice of users that several users have, or that are none.
-- $1 handle that the slice before ended with  $2 users in a slice
-- A handle that is the user's DID, as the AppView stores it at a login, is left alone.
-- Safe twice: reads only. Returns the slice's length and end, with one such handle or none (NULL) beside it in each row.
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
