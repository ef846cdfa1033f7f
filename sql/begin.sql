-- Begins a transaction and sets the parameters that the worker's statements need. The settings end with the
-- transaction, so that PgBouncer can give the connection to another client.
-- No parameters: sent as simple text, in one message.
-- Every statement finds its rows by key. Plans made while the tables were empty or not analyzed would scan the tables,
-- so scans, and the joins that need them, are disabled. Bitmap scans are disabled too: they read all rows of a key
-- where only a few are needed.
-- synchronous_commit is never weakened, because the acknowledgement of an entry follows the commit.
-- A process that freezes in a transaction blocks others by its locks for ten seconds at most. transaction_timeout
-- (PostgreSQL 17 and later) is switched off, because it would end the session however far the transaction has come;
-- statement_timeout and idle_in_transaction_session_timeout take its place.
-- READ COMMITTED is set explicitly, whatever the role's default: each statement must see what other transactions have
-- committed by then.
-- With row_security off, PostgreSQL refuses a statement from which row-level security would hide rows. A hidden row
-- looks like a missing one: opt-outs would be ignored, and deletes acknowledged without effect.
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
