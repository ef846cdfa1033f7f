-- Reads which of the recipients' times belong to another notification of theirs.
-- $1 recipient_did text[]  $2 indexed_at timestamp[]: arrays of one length  $3 uri text[] of the new notifications
-- Safe twice: reads only.
-- Locks: none.
SELECT DISTINCT n.recipient_did, n.indexed_at
FROM unnest($1::text[], $2::timestamp[]) AS wanted (recipient_did, indexed_at)
JOIN notifications AS n ON n.indexed_at = wanted.indexed_at
WHERE n.recipient_did = wanted.recipient_did AND n.uri <> ALL($3::text[])
