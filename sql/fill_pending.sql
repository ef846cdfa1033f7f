-- Reads the accounts that still miss something, beginning with the largest number.
-- $1 notifications boolean  $2 viewer_states boolean: which of the two is filled
-- Safe twice: reads only.
-- Locks: none.
SELECT did, number
FROM firehose_worker.local_dids
WHERE $1::boolean AND NOT has_notifications OR $2::boolean AND NOT has_viewer_states
ORDER BY number DESC, did
