-- Deletes notifications of records that are deleted or are for somebody else now.
-- $1 uri text[], sorted
-- Safe twice: only rows really deleted are returned. They name the subject of a record whose row the app has deleted.
-- Locks: rows by the unique key, those of the repos at hand only.
DELETE FROM notifications
WHERE uri = ANY($1::text[])
RETURNING uri, author_did, recipient_did, reason_subject
