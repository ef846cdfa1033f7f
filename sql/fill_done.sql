-- Records that accounts have got what they missed.
-- $1 number, the largest of these accounts  $2 notifications boolean  $3 viewer_states boolean: which of the two
-- Safe twice: the values are absolute.
-- Locks: the rows changed.
UPDATE firehose_worker.local_dids
SET has_notifications = has_notifications OR $2::boolean, has_viewer_states = has_viewer_states OR $3::boolean
WHERE number <= $1::bigint
    AND ($2::boolean AND NOT has_notifications OR $3::boolean AND NOT has_viewer_states)
