-- Records that accounts miss something, so that they are filled, or filled again.
-- $1 did text[]  $2 boolean, whether all accounts are meant  $3 notifications boolean  $4 viewer_states boolean: which
-- of the two
-- Safe twice: the values are absolute.
-- Locks: the rows changed.
UPDATE firehose_worker.local_dids
SET has_notifications = has_notifications AND NOT $3::boolean, has_viewer_states = has_viewer_states AND NOT $4::boolean
WHERE ($2::boolean OR did = ANY($1::text[]))
    AND ($3::boolean AND has_notifications OR $4::boolean AND has_viewer_states)
