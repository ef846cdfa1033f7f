-- The worker's own tables. They have a schema of their own, because the AppView's migrations manage public and drop
-- tables that they do not know. The worker creates them at startup if its role may. Otherwise an operator runs
-- `firehose-worker schema --own | psql ...`, and grants USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its
-- tables.
CREATE SCHEMA IF NOT EXISTS firehose_worker;

-- Live records of a pair (for example a like of one post by one account) for which the AppView's table has only one
-- row. entry_ms, entry_n and op order them as in the stream; the first one holds the row. The holder is stored here
-- too: its delete then frees the pair even if the AppView deleted the row before. All zeros mean that the record
-- precedes all others.
CREATE TABLE IF NOT EXISTS firehose_worker.rivals (
    uri text PRIMARY KEY,
    table_name text NOT NULL,
    key_a text NOT NULL,
    key_b text NOT NULL,
    entry_ms bigint NOT NULL,
    entry_n bigint NOT NULL,
    op integer NOT NULL,
    created_at timestamp NOT NULL,
    cid text NOT NULL,
    subject_cid text,
    via jsonb,
    commit_seq text,
    handle text,
    verified_at timestamp
);
-- Ordered by position, so that the next record of a pair is found however many wait. Earlier versions indexed the pair
-- alone.
CREATE INDEX IF NOT EXISTS rivals_place ON firehose_worker.rivals (key_a, key_b, table_name, entry_ms, entry_n, op);
DROP INDEX IF EXISTS firehose_worker.rivals_pair;

-- The progress of a job that walks whole tables, so that the next start continues from there. A row exists only while
-- its job is unfinished. runner is the process that works on it; a process that finds another runner here stops.
CREATE TABLE IF NOT EXISTS firehose_worker.progress (
    job text PRIMARY KEY,
    runner text NOT NULL,
    state jsonb NOT NULL,
    updated_at timestamp NOT NULL DEFAULT now()
);

-- The processes that write to this database. A single process keeps the order of a repo's ops by itself; several
-- processes write versions of its records. Before each commit, a process reads whether others have joined and whether
-- it has been removed.
CREATE TABLE IF NOT EXISTS firehose_worker.members (
    id bigint PRIMARY KEY,
    consumer text NOT NULL,
    -- The Redis key that holds mark while the process is alive. Empty if the process may not write such a key.
    lease_key text NOT NULL,
    mark text NOT NULL,
    has_left boolean NOT NULL DEFAULT false,
    -- The process neither holds nor will read an entry from before this position.
    settled_ms bigint NOT NULL DEFAULT 0,
    settled_n bigint NOT NULL DEFAULT 0
);

-- The position of the last op on each record, used while several processes may apply the ops of a repo in any order:
-- an op before that position is too late. key is one of:
-- - the record's URI;
-- - `at://DID/` for a user's handle;
-- - the DID alone for a repo; transactions on the repo lock this row and therefore run one after the other;
-- - a handle alone, for the last event that assigned it to any user. A process that is alone writes only these.
-- Rows are pruned once they are older than the oldest entry that any process may still apply.
CREATE TABLE IF NOT EXISTS firehose_worker.versions (
    key text PRIMARY KEY,
    entry_ms bigint NOT NULL,
    entry_n bigint NOT NULL,
    op integer NOT NULL,
    is_deleted boolean NOT NULL,
    -- For records of a pair: most of their tables have no column for the CID.
    cid text
);
CREATE INDEX IF NOT EXISTS versions_entry ON firehose_worker.versions (entry_ms, entry_n);

-- The accounts that this AppView serves: the only ones that get notifications and viewer states if those are written
-- for local accounts only, and those whose posts are not pruned. An account enters once one of the AppView's tables or
-- LOCAL_DIDS names it, and leaves when none has named it for 30 days.
CREATE TABLE IF NOT EXISTS firehose_worker.local_dids (
    did text PRIMARY KEY,
    -- The largest number tells a process whether it knows all accounts: before each commit it compares that number with
    -- the one it has read.
    number bigint NOT NULL,
    -- Whether the account has got what it missed before it entered.
    has_notifications boolean NOT NULL DEFAULT false,
    has_viewer_states boolean NOT NULL DEFAULT false,
    seen_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS local_dids_number ON firehose_worker.local_dids (number);
