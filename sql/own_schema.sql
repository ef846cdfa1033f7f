-- The worker's own tables. In a schema of their own, since the AppView's migrations manage public and drop what they do
-- not know. The worker makes them at its start where it may; where it may not, an operator runs
-- `firehose-worker schema --own | psql ...`, and grants USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its
-- tables.
CREATE SCHEMA IF NOT EXISTS firehose_worker;

-- Live records of a pair (a like of one post by one account, ...) of which the AppView's table has room for one.
-- entry_ms, entry_n and op order them as the stream did: the first holds the row. That one is in here too, so that its
-- delete frees the pair though the app may have deleted the row before; all zeros mean that it came before all others.
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
-- By place, so that the next of a pair is found however many wait. Earlier versions had an index of the pair alone.
CREATE INDEX IF NOT EXISTS rivals_place ON firehose_worker.rivals (key_a, key_b, table_name, entry_ms, entry_n, op);
DROP INDEX IF EXISTS firehose_worker.rivals_pair;

-- How far a job that walks whole tables has come, so that the next start goes on from there. A row is here only while
-- its job is unfinished; runner is the process that works on it, and one that finds another's name there stops.
CREATE TABLE IF NOT EXISTS firehose_worker.progress (
    job text PRIMARY KEY,
    runner text NOT NULL,
    state jsonb NOT NULL,
    updated_at timestamp NOT NULL DEFAULT now()
);

-- The processes that write to this database. A process alone in here keeps the order of a repo's ops by itself; several
-- write versions of its records. Before each commit a process looks whether others have come, and whether it has been taken out
-- itself.
CREATE TABLE IF NOT EXISTS firehose_worker.members (
    id bigint PRIMARY KEY,
    consumer text NOT NULL,
    -- The key in Redis that holds mark while the process lives; empty if it may not keep one.
    lease_key text NOT NULL,
    mark text NOT NULL,
    has_left boolean NOT NULL DEFAULT false,
    -- The process neither holds nor takes in an entry from before this place.
    settled_ms bigint NOT NULL DEFAULT 0,
    settled_n bigint NOT NULL DEFAULT 0
);

-- The place of the last op on each record, while several processes apply ops of one repo in any order: an op from
-- before that place comes too late. key is the record's URI; `at://DID/` for a user's handle; the DID alone for a repo,
-- whose row is the lock by which the transactions on it come one after the other. A handle alone is the key of the last
-- event that gave it to any user; a process that is alone writes these only. Pruned behind the oldest entry that
-- any process may still apply.
CREATE TABLE IF NOT EXISTS firehose_worker.versions (
    key text PRIMARY KEY,
    entry_ms bigint NOT NULL,
    entry_n bigint NOT NULL,
    op integer NOT NULL,
    is_deleted boolean NOT NULL,
    -- Of records of a pair: most of their tables have no column for it.
    cid text
);
CREATE INDEX IF NOT EXISTS versions_entry ON firehose_worker.versions (entry_ms, entry_n);
