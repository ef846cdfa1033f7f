-- Reads the rows of {table} that have one of the uris or one of the pairs.
-- $1 uri text[]  $2 key_a text[]  $3 key_b text[] (the pairs, of one length)
-- A pair is looked up as the first row from it on, in the order of the pair's own index. With an equality, the planner
-- might choose the index of a single column and read every row of an account or a subject.
-- Safe twice: reads only.
-- Locks: the rows read, in uri order, until the end of the transaction.
SELECT uri, {key_a} AS key_a, {key_b} AS key_b, created_at, indexed_at, {values}
FROM {table}
WHERE uri IN (
    SELECT unnest($1::text[])
    UNION
    SELECT held.uri
    FROM unnest($2::text[], $3::text[]) AS pair (key_a, key_b),
        LATERAL (
            SELECT uri, {key_a} AS key_a, {key_b} AS key_b
            FROM {table}
            WHERE ({pair}) >= ({pair_values})
            ORDER BY {pair}
            LIMIT 1
        ) AS held
    WHERE (held.key_a, held.key_b) = (pair.key_a, pair.key_b)
)
ORDER BY uri
FOR UPDATE
