-- Inserts or replaces labels, with one event for each that is new.
-- $1 uri  $2 src  $3 subject  $4 val  $5 neg  $6 created_at  $7 indexed_at, of a row that is new: arrays of one
-- length, sorted by uri. What is new was not there when the statement began; a partitioned table tells no xmax.
-- Safe twice: the values are absolute; a row that has them already is not written, and only a new one has an event.
-- Locks: rows in uri order, those of the repos at hand.
WITH written AS (
    INSERT INTO labels AS r (uri, src, subject, val, neg, created_at, indexed_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamp[],
        $7::timestamp[])
    ON CONFLICT (uri) DO UPDATE
    SET src = excluded.src, subject = excluded.subject, val = excluded.val, neg = excluded.neg,
        created_at = excluded.created_at
    WHERE (r.src, r.subject, r.val, r.neg, r.created_at)
        IS DISTINCT FROM
        (excluded.src, excluded.subject, excluded.val, excluded.neg, excluded.created_at)
    RETURNING r.uri
)
INSERT INTO label_events (label_uri, action)
SELECT uri, 'created' FROM written
WHERE (SELECT TRUE FROM labels AS old WHERE old.uri = written.uri) IS NULL
