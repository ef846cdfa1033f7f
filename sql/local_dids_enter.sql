-- Adds local accounts under a new number, and records that existing ones are still named.
-- $1 did text[]
-- Numbers have random gaps. After a server went back to an earlier state, a number does not come again with other
-- accounts.
-- Safe twice: an existing row keeps its number.
-- Locks: rows in did order; the caller holds the gate if an account is new.
INSERT INTO firehose_worker.local_dids AS l (did, number)
SELECT did, (
    SELECT coalesce(max(number), 0) + 1 + floor(random() * 1000000)::bigint FROM firehose_worker.local_dids
)
FROM unnest($1::text[]) AS did
ORDER BY did
ON CONFLICT (did) DO UPDATE SET seen_at = now()
