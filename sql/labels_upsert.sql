-- Inserts or replaces labels, and inserts an event for each new label.
-- $1 uri  $2 src  $3 subject  $4 val  $5 neg  $6 created_at  $7 indexed_at, used for new rows only: arrays of one
-- length, sorted by uri
-- A label is new if it did not exist when the statement began. A partitioned table does not return xmax.
-- Safe twice: the values are absolute, a row that already has them is not written, and only a new row gets an event.
-- Locks: rows in uri order; they belong to the repos of this batch.
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
