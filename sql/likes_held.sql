-- Reads which pairs a row of likes holds, before the rows of the others are copied.
-- $1 key_a text[]  $2 key_b text[] (the pairs, of one length)
-- Safe twice: reads only.
-- Locks: none; a row made between this and the copy fails the copy, and the transaction is done over.
SELECT pair.key_a, pair.key_b
FROM unnest($1::text[], $2::text[]) AS pair (key_a, key_b)
WHERE EXISTS (SELECT FROM likes AS held WHERE held.user_did = pair.key_a AND held.post_uri = pair.key_b)
