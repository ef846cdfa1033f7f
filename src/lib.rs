//! Appends the firehose of a relay to a Redis stream, and writes its events from there to the PostgreSQL database of
//! the AppView Aurora-Prism. The first is the *consumer* (`src/consumer/`), the second the *worker*.
//!
//! This page is the map for people who change the program. README.md says what it does, `systemd/OPERATIONS.md` how to
//! run it, and `tests/README.md` how to test it.
//!
//! # The data path
//!
//! An *entry* of the stream contains an *event*; an event of type commit contains *ops*; an op creates, updates or
//! deletes one *record*, and becomes changes of *rows*.
//!
//! ```text
//! reader ─▶ partition ─▶ worker-N: batch ─▶ decode ─▶ rows ─▶ fold ─▶ apply ─▶ acker ─▶ XACK, dead letters ─▶ metrics
//! ```
//!
//! `src/reader/` reads entries, and `src/partition.rs` sends all entries of one repo to the same worker thread.
//! `src/batch.rs` collects the entries that share a transaction, `src/decode/` parses them, `src/rows/` turns each op
//! into row changes, and `src/fold.rs` keeps one change per row. `src/apply/` writes them in one transaction, and
//! `src/ack/` acknowledges the entries. `src/pipeline.rs` connects these stages.
//!
//! The consumer's path leads to the stream:
//!
//! ```text
//! relay ─▶ socket: session ─▶ frame ─▶ commit ─▶ record ─▶ entry ─▶ batch ─▶ redis: publish ─▶ stream, cursor
//! ```
//!
//! `src/consumer/session.rs` reads one connection, `src/firehose/` turns a *frame* into the data of an entry, and
//! `src/consumer/publish.rs` appends a batch together with the *cursor*, the seq of its last event.
//!
//! # Terms
//!
//! - *Pending*: delivered by Redis and not acknowledged. *In flight*: pending, and read by this process.
//! - *Dead letter*: an entry, or one op of it, that can never be applied, stored in a stream of its own.
//! - *Member*: a process that writes to the database. *Standby*: a process that waits for a consumer name.
//! - *Fence*: a Redis key that changes when entries pass from one process to another.
//! - *Local account*: one that this AppView serves. Only these read notifications and viewer states.
//! - *Mark*: what a lease stores to identify its process: host, process ID, boot and start time.
//! - *Session*: the connections to Redis over which an entry is read and acknowledged. PostgreSQL's sessions are named
//!   as such.
//! - *Pair*: what identifies a row of a table such as likes, beside its URI: author and post. Only one row may have a
//!   pair, although an author may write several records of it.
//! - *Holder* of a pair: the record whose row stands for the pair. *Rivals*: the other live records of the pair, which
//!   the table `firehose_worker.rivals` remembers together with the holder. (The holder of a *consumer name* is the
//!   process that has its lease.)
//! - *Foreign row*: a row that another program wrote, such as an older worker. Its side effects (counters,
//!   notifications, feed items) may be incomplete.
//! - *Position*: an entry's ID and the op's index in the entry. *Version*: the position of the last op that was applied
//!   to a record, stored while there are several members; the one for a user's handle is always stored.
//! - *Settled*: said of all entries before the position that a member publishes: they have been applied.
//! - *Floor*: the entry before which a process holds no entry and accepts none.
//! - *Portion*: the number of ops that may share a transaction after PostgreSQL has refused more as too large.
//! - *Sift*: find the refused ops of a batch in a transaction that is always rolled back.
//! - *Seq*: the number that a relay gives an event. *Cursor*: the seq of the last event in the stream.
//! - *Term*: the time in which a consumer may append, from reading the cursor until it is no longer the consumer's own.
//! - *Set aside*: said of what the consumer could not make part of an entry; it is kept with the reason.
//! - *Peer*: another program's producer on the same stream.
//! - *Page key*: what identifies a list that readers page through by `indexed_at`, such as the likes of one post.
//!
//! # Threads
//!
//! | thread | what it does | where |
//! |---|---|---|
//! | main | starts the others, waits for a stop, ends them in the order of the data path | `src/pipeline.rs` |
//! | `reader` | reads new entries and takes over those of dead consumers | `src/reader/` |
//! | `worker-0` … | apply batches, each thread on its own PostgreSQL connection | `src/worker/` |
//! | `acker` | acknowledges entries and stores dead letters | `src/ack/` |
//! | `metrics` | flushes counters to Redis every 500 ms | `src/metrics/flush.rs` |
//! | `losses` | samples the stream for entries that were trimmed unread | `src/losses/` |
//! | `status` | publishes what `firehose-worker status` shows, and samples the size of the database | `src/report/status.rs`, `src/report/growth/` |
//! | `holder`, `renewer` | renew the lease on the consumer name, and entries that are held for long | `src/group/` |
//! | `members` | finds the other processes that write to the database | `src/group/members/` |
//! | `local` | looks for the accounts that this AppView serves, if a side effect is written only for them | `src/local/keep.rs` |
//! | `fill` | writes what accounts missed before they became local | `src/fill/keep.rs` |
//! | `tries` | watches attempts at entries that may crash the process | `src/worker/poison.rs` |
//! | `notify`, `http`, `http-connection` | report to systemd and to Prometheus, where they are configured; each HTTP connection has a thread of its own | `src/service/` |
//! | `page` | gathers the figures of all processes every 5 s for the page at METRICS_ADDR, if that is set | `src/page/` |
//! | `signals`, `stderr` | receive signals, and write the log | `src/runtime/shutdown.rs`, `src/logging/` |
//! | `socket`, `redis` | the consumer's data path: read and decode, append | `src/consumer/socket.rs`, `src/consumer/publish.rs` |
//! | `r2d2-worker-0` … | open connections for the connection pool, which starts them | `src/postgres/db.rs` |
//!
//! A thread that ends early, by an error or a panic, stops the process: a new process is the simplest known good state,
//! and unacknowledged entries stay pending in Redis.
//!
//! # Invariants
//!
//! - **An entry is acknowledged last.** Only `src/ack/xack.rs` acknowledges. An entry gets there after the transaction
//!   with its effect has committed, or together with its dead letter, which is stored in the same MULTI.
//! - **Every statement, or the transaction around it, is safe to run twice.** Each file in `sql/` says why. An entry
//!   that is delivered again changes no row, and counters move only by rows that a statement returned as inserted or
//!   deleted.
//! - **Entries of one repo take effect in order.** One worker thread applies them, no acknowledgement overtakes that of
//!   an earlier entry of the repo, and an entry is acknowledged only in the session with Redis in which it was read
//!   (`src/group/session.rs`). Between processes, `src/apply/versions.rs` drops ops that come too late.
//! - **All transactions lock in one order.** Tables follow each other as in `src/apply/mod.rs`, and rows are sorted by
//!   key within a statement, so that workers do not deadlock.
//! - **Ops of a batch succeed or fail alone.** `src/worker/isolate.rs` finds the ops that PostgreSQL refuses; the rest
//!   of the batch is applied.
//! - **Every wait has an end.** Every blocking call has a time limit and is followed by a heartbeat
//!   (`src/runtime/heartbeat.rs`), so that the watchdog can tell a stuck thread from an outage.
//! - **Memory is bounded.** Channels are bounded, and `src/in_flight.rs` limits the bytes that are read and not yet
//!   acknowledged.
//! - **`decode`, `rows`, `fold` and `partition` are pure.** They do not know a server, and never panic on any input.
//! - **Imports point one way.** A module imports only modules above it in the list below;
//!   `tests/integration/structure.rs` checks it.
//! - **Untrusted text is escaped** before it reaches a terminal (`src/logging/shown.rs`).
//!
//! # What becomes of an entry that goes wrong
//!
//! 1. `src/decode/` and `src/worker/reading.rs`: an entry that cannot be parsed becomes a dead letter, and so does a
//!    single op of a commit that cannot. `src/rows/` ignores a record that does not fit its lexicon, with a reason that
//!    is counted.
//! 2. `src/postgres/fault.rs` classifies each error of PostgreSQL by its SQLSTATE: transient, the data's, the
//!    operator's, or unknown. `src/postgres/constraint.rs` recognizes constraints on columns that the worker does not
//!    write.
//! 3. `src/worker/isolate.rs` decides what follows: it retries transient errors, waits where an operator must act, and
//!    halves a batch that is too large for one transaction or needs too many locks (53200). `src/worker/sift.rs` finds
//!    the ops that are refused as data; each becomes a dead letter, unless one reason refuses most of the batch.
//!    The table below lists the errors.
//! 4. `src/reader/deliveries.rs` reads how often Redis has delivered an entry, and `src/worker/poison.rs` tries entries
//!    that may crash the process, first together and finally alone; `REDIS_MAX_DELIVERIES` limits the tries alone.
//! 5. `src/dead_letter.rs` defines the fields of a dead letter, and `src/ack/mod.rs` stores it.
//!
//! An error rolls back the transaction, and nothing is acknowledged before its attempts are over. *Batch* stands for
//! several ops in one transaction. A batch is *searched* by `sift`: accepted ops are applied, and each refused op is
//! then tried alone, unless an op of the batch was already refused for the same reason, table, column and constraint.
//! The attempts are those of the whole batch, and again those of a single op; a part of a batch is tried once.
//!
//! | error | attempts | outcome |
//! |---|---|---|
//! | the entry, or one op of it, cannot be parsed | none | dead letter; the other ops of the entry are applied |
//! | the record does not fit its lexicon, its account has opted out, or its type or action is unknown | none | ignored and counted; the entry is acknowledged |
//! | no connection to PostgreSQL | until there is one | applied |
//! | the session ends during the transaction (no reply, 08P01, 25P03, 57P01, 57P02) | batch: 4, then in halves; single op: no limit | applied |
//! | memory, temporary files, statement or transaction time are used up (53000, 53200, 53400, 57014, 25P04) | batch: 1, then in halves; single op: no limit | applied; later batches are smaller for a while |
//! | other transient errors: deadlocks, locks, full disk, too many connections, read-only or starting server (08, 25, 40, 53, 55, 57) | no limit | applied |
//! | the lease on the consumer name lapsed, or another process joined | no limit | applied, once the lease is renewed or in the new mode |
//! | another process declared this one dead | 1 | not applied here; the process stops, and others apply the entry |
//! | the operator's: missing table, column or right, wrong type of a column that is read (28, 3D, 3F, 42, 55000) | no limit | applied, once an operator has fixed it; missing own tables are created |
//! | a value is refused (21, 22, 23), or too large for any PostgreSQL (54) | 1 | batch: searched, and smaller for a while if the error is 54; single op: dead letter |
//! | … 22, and columns have other types than the worker writes | no limit | applied, once an operator has fixed it |
//! | … 23502, 23503, 23514, and the worker writes none of the constraint's columns | no limit | applied, once an operator has fixed it |
//! | … 23503 otherwise: a user whom the worker remembers may have been deleted | 2 | batch: searched; single op: dead letter |
//! | … 23505, or a row vanished between two statements: another program may be writing it | 6 | batch: searched; single op: dead letter |
//! | any other SQLSTATE, such as 58, P0001, XX | 6 | batch: searched; single op: dead letter if another op of its batch is applied, else it waits and is tried again with later entries |
//! | one reason refuses most of a batch, at least 10 ops, of most of its repos; refusals of earlier batches count if this one is refused as a whole | no limit | no dead letters: all ops wait and are tried again |
//! | the process crashes while it applies an entry that was delivered more than 3 times (or `REDIS_MAX_DELIVERIES`, if lower) | together with other suspects, then in halves; alone `REDIS_MAX_DELIVERIES` | dead letter |
//!
//! # Where to change what
//!
//! | to change | see |
//! |---|---|
//! | how a relay's frames are read, and what an entry contains | `src/firehose/` |
//! | where the consumer begins, and how it finds a position by time | `src/consumer/begin.rs`, `src/consumer/rewind.rs` |
//! | the transaction that appends each event once | `src/consumer/publish.rs` |
//! | connections to relays: addresses, proxies, TLS, liveness, waits | `src/settings/relay_url.rs`, `src/consumer/relay/`, `src/consumer/session.rs`, `src/consumer/socket.rs` |
//! | pauses, standbys, other producers | `src/consumer/pressure.rs`, `src/consumer/peers.rs`, `src/lease/` |
//! | what a record becomes | `src/rows/`, then `sql/` |
//! | a collection and its table | its description in `src/rows/keyed_tables.rs` or `src/rows/pairs.rs`, and its columns in `sql/schema.sql`; see below |
//! | statements that are made from such descriptions | the templates `sql/keyed_upsert.sql`, `sql/pairs_insert.sql` and their neighbours, expanded by `src/postgres/templates.rs`; `firehose-worker schema --statements` prints them |
//! | how the two dialects of records are read | `src/decode/dialect.rs` |
//! | which of several likes of one post holds the row | `src/apply/pairs/plan.rs` |
//! | which user a handle belongs to | `src/apply/handles.rs` |
//! | which time a row has | `src/apply/page_keys.rs` |
//! | counters (`like_count` and the others), notifications, feed items, viewer states | `src/apply/effects/` |
//! | how many entries and rows are written at once | `src/batch.rs`, `src/worker/portion.rs`, `src/apply/copy.rs` |
//! | connections to PostgreSQL, their time limits, TLS | `src/postgres/`, `src/tls.rs` |
//! | connections to Redis, transactions that take effect once | `src/redis/link.rs`, `src/redis/exactly_once.rs` |
//! | names of Redis keys | `src/keys.rs`, and the list in `systemd/OPERATIONS.md` |
//! | when an entry is acknowledged, and which process counts it | `src/ack/` |
//! | the dashboard's counters | `src/metrics/mod.rs`, `src/metrics/flush.rs` |
//! | which process reads, writes and acknowledges under a consumer name | `src/lease/`, `src/group/renew.rs` |
//! | when entries of another consumer are taken over | `src/reader/claim.rs`, `src/reader/takeover.rs` |
//! | what Redis is asked about the group: XPENDING, XINFO | `src/group/consumer.rs`, `src/group/stream_info.rs` |
//! | several processes on one repo | `src/apply/versions.rs`, `src/group/members/` |
//! | a Redis in an earlier state | `src/group/session.rs`, `src/reader/rewind.rs` |
//! | `check`, `status`, `repair`, `prune`, `dead-letters`, `set-aside` | `src/commands/check/`, `src/commands/status/`, `src/commands/repair/`, `src/commands/prune/` and `src/apply/prune.rs`, `src/commands/dead_letters/`, `src/commands/set_aside.rs` |
//! | settings | `src/settings/cli.rs`, `src/settings/config.rs`, for the consumer `src/settings/consumer_args.rs`, `src/settings/consumer.rs` and, as other commands know them, `src/settings/known_consumer.rs`, `systemd/firehose-worker.default`, `systemd/OPERATIONS.md` |
//! | the log, and how untrusted text is shown in it | `src/logging/` |
//! | the figures of `status`, `check` and the page, and what they are judged by | `src/figures/` |
//! | the page at METRICS_ADDR | `src/page/`; its look and script are in `src/page/page.html` |
//! | Prometheus, health checks, systemd | `src/service/`, `src/report/`, `src/metrics/readiness.rs` |
//! | units, package, man pages | `systemd/`, `Cargo.toml`, `src/build.rs` |
//!
//! # Adding a collection
//!
//! A table whose rows depend only on their own record is a [`KeyedTable`](rows::KeyedTable) in
//! `src/rows/keyed_tables.rs`; a table with one row per pair is a [`PairTable`](rows::PairTable) in `src/rows/pairs.rs`.
//! The description and the columns in `sql/schema.sql` are all that the program needs: the statements, `check`,
//! `repair` and the tests that go through all tables follow from them. Besides its own tests, which
//! `tests/integration/index.md` lists, the collection needs a record in `one_of_each` (`tests/integration/records.rs`).
//!
//! Until then, records of the collection are rows of `generic_records`, and the worker does not move them. The row of
//! such a record stays there unchanged, even when its record is updated or deleted: every later op writes the new
//! table only. A record that is not updated gets no row in the new table. Therefore stop the workers for the
//! migration. It creates the table, fills it from `record` (JSON) of the rows with
//! `split_part(uri, '/', 4) = '<collection>'`, and deletes these rows; then start workers that know the collection.
//! An older worker that runs beside them would continue to write `generic_records`.

#![warn(clippy::print_stdout, clippy::print_stderr)] // they panic if stderr is closed, and block if it is not read

// Lowest first: a module imports only modules above it in this list. tests/integration/structure.rs checks it.

// What every part of the program stands on.
pub mod logging;
pub mod runtime;
pub mod tls;
pub mod entry;
pub mod micros;
pub mod redis;
pub mod lease;
pub mod service;

// What an event's records become: rows, and the statements that write them.
pub mod decode;
pub mod firehose;
pub mod rows;
pub mod postgres;

pub mod settings;
pub mod keys;

// Work on whole tables beside running workers.
pub mod job;

// The worker: what becomes of an entry, what is counted, which processes read a stream, and the data path from the
// stream to the acknowledgement.
pub mod fold;
pub mod partition;
pub mod batch;
pub mod dead_letter;
pub mod outcome;
pub mod metrics;
pub mod in_flight;
pub mod group;
pub mod local;
pub mod losses;
pub mod apply;
pub mod fill;
pub mod reader;
pub mod worker;
pub mod ack;
pub mod report;

// What the processes of the pipeline publish in Redis, as commands and the page show it.
pub mod figures;
pub mod page;

// The worker as a whole, and the consumer: from a relay to the stream.
pub mod pipeline;
pub mod consumer;

// What people call.
pub mod commands;
