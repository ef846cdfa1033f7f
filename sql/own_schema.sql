-- The worker's own tables. In a schema of their own, since the AppView's migrations manage public and drop what they do
-- not know. The worker makes them at its start where it may; where it may not, an operator runs
-- `firehose-worker schema --own | psql …`, and grants USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its tables.
CREATE SCHEMA IF NOT EXISTS firehose_worker;

-- Live records of a pair (a like of one post by one account, …) of which the AppView's table has room for one. position
-- orders them as the stream did: the record with the lowest position holds the row. A record in that row is in here too
-- if it was a rival once, since its position is then known; one that is not came before all others.
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
CREATE INDEX IF NOT EXISTS rivals_pair ON firehose_worker.rivals (key_a, key_b);

-- How far a job that walks whole tables has come, so that the next start goes on from there. A row is here only while its
-- job is unfinished; runner is the process that works on it, and one that finds another's name there stops.
CREATE TABLE IF NOT EXISTS firehose_worker.progress (
    job text PRIMARY KEY,
    runner text NOT NULL,
    state jsonb NOT NULL,
    updated_at timestamp NOT NULL DEFAULT now()
);
