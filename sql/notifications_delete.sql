-- Deletes notifications of records that were deleted or now have another recipient.
-- $1 uri text[], sorted
-- Safe twice: only rows actually deleted are returned. They identify the subject of a record whose row the AppView has
-- deleted.
-- Locks: rows by the unique key; they belong to the repos of this batch.
DELETE FROM notifications
WHERE uri = ANY($1::text[])
RETURNING uri, author_did, recipient_did, reason_subject
