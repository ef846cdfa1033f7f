-- Reads until when accounts have seen their notifications: the time of the newest that is read, or the time that the
-- AppView has stored.
-- $1 recipient_did text[]. {stored} stands for the column of user_preferences, or NULL if there is none.
-- Safe twice: reads only.
-- Locks: none.
SELECT account.did, greatest(
    (SELECT max(indexed_at) FROM notifications WHERE recipient_did = account.did AND is_read),
    {stored}
) AS seen_at
FROM unnest($1::text[]) AS account (did)
