-- Inserts notifications that were not written because their recipients were not local. Corrects existing ones as
-- notifications_upsert.sql does, in case their records were updated meanwhile.
-- $1 uri  $2 recipient_did  $3 author_did  $4 reason  $5 reason_subject  $6 cid  $7 created_at
-- $8 indexed_at  $9 is_read, both used for new rows only: arrays of one length, sorted by uri
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Returns the number of rows written.
-- Locks: rows in uri order; the records that cause them are locked.
INSERT INTO notifications AS n
    (uri, recipient_did, author_did, reason, reason_subject, cid, created_at, indexed_at, is_read)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamp[],
    $8::timestamp[], $9::boolean[])
ON CONFLICT (uri) DO UPDATE
SET recipient_did = excluded.recipient_did, author_did = excluded.author_did, reason = excluded.reason,
    reason_subject = excluded.reason_subject, cid = coalesce(excluded.cid, n.cid), created_at = excluded.created_at
WHERE (n.recipient_did, n.author_did, n.reason, n.reason_subject, n.cid, n.created_at)
    IS DISTINCT FROM
    (excluded.recipient_did, excluded.author_did, excluded.reason, excluded.reason_subject, coalesce(excluded.cid,
        n.cid),
        excluded.created_at)
