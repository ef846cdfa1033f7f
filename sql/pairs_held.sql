-- Reads which pairs a row of {table} holds, before the rows of the others are copied.
-- $1 key_a text[]  $2 key_b text[] (the pairs, of one length)
-- A pair is found as the first from it on in the order of the pair's own index: by an equality the planner may take the
-- index of one of its columns alone, and read all that an account or a subject has.
-- Safe twice: reads only.
-- Locks: none; a row made between this and the copy fails the copy, and the transaction is done over.
SELECT pair.key_a, pair.key_b
FROM unnest($1::text[], $2::text[]) AS pair (key_a, key_b),
    LATERAL (
        SELECT {key_a} AS key_a, {key_b} AS key_b
        FROM {table}
        WHERE ({pair}) >= ({pair_values})
        ORDER BY {pair}
        LIMIT 1
    ) AS held
WHERE (held.key_a, held.key_b) = (pair.key_a, pair.key_b)
