-- Sets the dates of remembered records that are dated before the year 0100 to the time of their entry, or to the
-- current time if the entry's ID is not a time.
-- $1 uri text[], sorted
-- Safe twice: a record that has another date by then is left unchanged.
-- Locks: the rows.
UPDATE firehose_worker.rivals AS r
SET created_at = CASE WHEN r.created_at < '0100-01-01' THEN entry.time ELSE r.created_at END,
    verified_at = CASE WHEN r.verified_at < '0100-01-01' THEN entry.time ELSE r.verified_at END
FROM (
    SELECT uri,
        CASE WHEN entry_ms BETWEEN 1577836800000 AND extract(epoch FROM now()) * 1000 + 86400000
            THEN to_timestamp(entry_ms / 1000.0) ELSE now() END AT TIME ZONE 'UTC' AS time
    FROM firehose_worker.rivals
    WHERE uri = ANY($1::text[])
) AS entry
WHERE r.uri = entry.uri AND (r.created_at < '0100-01-01' OR r.verified_at < '0100-01-01')
