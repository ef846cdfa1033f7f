-- Sets the CIDs of banners, or NULL, where the stored value is still the one found.
-- $1 did  $2 value found  $3 CID: arrays of one length, sorted by did
-- Safe twice: the values are absolute.
-- Locks: the rows.
UPDATE users AS u
SET banner_url = new.cid
FROM unnest($1::text[], $2::text[], $3::text[]) AS new (did, stored, cid)
WHERE u.did = new.did AND u.banner_url = new.stored
