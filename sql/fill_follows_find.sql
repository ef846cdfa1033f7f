-- Reads a slice of the follows of an account, and which of them are recent.
-- $1 did of the account  $2 uri of the last follow of the previous slice  $3 indexed_at from which on a follow is recent
-- $4 number of follows in a slice
-- Safe twice: reads only.
-- Locks: none.
SELECT uri, indexed_at >= $3::timestamp AS is_recent
FROM follows
WHERE following_did = $1::text AND uri > $2::text
ORDER BY uri
LIMIT $4::bigint
