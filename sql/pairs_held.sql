-- Reads which of the pairs already have a row in {table}, before rows of the other pairs are copied.
-- $1 key_a text[]  $2 key_b text[] (the pairs, of one length)
-- A pair is looked up as the first row from it on, in the order of the pair's own index. With an equality, the planner
-- might choose the index of a single column and read every row of an account or a subject.
-- Safe twice: reads only.
-- Locks: none. A row inserted between this statement and the copy fails the copy, and the transaction is repeated.
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
