-- Begins a transaction and sets, for it alone, what the worker's statements need; nothing outlives it, so that PgBouncer
-- may give the connection to somebody else.
-- No parameters: sent as simple text, in one message.
-- Every statement names its rows by key. Plans made while the tables were empty or unanalysed would scan them, so scans
-- and the joins that need them are priced out. So are bitmaps, which read all rows of a key where a few were asked
-- for. synchronous_commit is never weakened: an acknowledgement follows the commit. A process that freezes in a transaction keeps its locks from others for ten seconds at most. transaction_timeout, which PostgreSQL
-- has from version 17 on, would end the session however far the transaction has come: those two limits take its place. What a statement finds must be what
-- others have committed by then, whatever isolation level the role has by default. With row_security off PostgreSQL refuses
-- a statement from which row-level security would hide rows: a hidden row looks like one that is not there, so opt-outs would
-- be disregarded and deletes acknowledged without effect.
-- Safe twice: inside a transaction BEGIN only warns, and the settings are the same.
-- Locks: none.
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT set_config('TimeZone', 'UTC', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('jit', 'off', true),
    set_config('row_security', 'off', true),
    set_config('lock_timeout', '8s', true),
    set_config('statement_timeout', '30s', true),
    set_config('idle_in_transaction_session_timeout', '10s', true),
    CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', true) END,
    set_config(
        'synchronous_commit',
        CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
            ELSE current_setting('synchronous_commit') END,
        true
    );
