//! A test's private Redis and database, with methods to fill the stream and inspect the results.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Connection, cmd};
use serde_json::{Value, json};

use super::entries::cid_for;
use super::postgres::{Database, PostgresServer};
use super::process::tail;
use super::redis::RedisServer;
use super::snapshot::{self, Snapshot};
use super::worker::{Output, WorkerBuilder};
use crate::generator::Event;

/// The stream, under its default name.
pub(crate) const EVENTS: &str = "firehose:events";

/// The consumer group, under its default name.
pub(crate) const GROUP: &str = "firehose-processors";

const DEAD_LETTERS: &str = "firehose:dead-letters";

/// Entries in one round trip when a test sends many.
const N_PIPELINED: usize = 500;

pub(crate) struct Stack {
    pub(crate) redis: RedisServer,
    pub(crate) database: Database,
    last_seq: AtomicU64,
}

/// How many events went into the stream, by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) total: i64,
    pub(crate) commit: i64,
    pub(crate) identity: i64,
    pub(crate) account: i64,
}

impl Stack {
    /// A new Redis, and a new database in the shared cluster.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_postgres(name, PostgresServer::shared())
    }

    /// The same with a cluster that the test owns.
    pub(crate) fn with_postgres(name: &str, server: Arc<PostgresServer>) -> Self {
        Self::of(RedisServer::start(), Database::new(server, name))
    }

    pub(crate) fn of(redis: RedisServer, database: Database) -> Self {
        Self {
            redis,
            database,
            last_seq: AtomicU64::new(0),
        }
    }
}

/// Methods that fill the stream. All return the ID of the new entry.
impl Stack {
    /// Appends an event, with the next seq of 1, 2, 3 …
    pub(crate) fn push(&self, kind: &str, data: Value) -> String {
        let seq = self.next_seq();
        self.push_with_seq(kind, data, &seq)
    }

    pub(crate) fn push_with_seq(&self, kind: &str, data: Value, seq: &str) -> String {
        self.push_at("*", kind, data, seq)
    }

    /// Appends an event under an ID of the test's choice.
    pub(crate) fn push_at(&self, id: &str, kind: &str, data: Value, seq: &str) -> String {
        let data = data.to_string();
        self.add(
            id,
            &[
                ("type", kind.as_bytes()),
                ("data", data.as_bytes()),
                ("seq", seq.as_bytes()),
            ],
        )
    }

    /// Appends an entry of any fields and bytes.
    pub(crate) fn push_fields(&self, fields: &[(&str, &[u8])]) -> String {
        self.add("*", fields)
    }

    pub(crate) fn commit(&self, repo: &str, ops: Value) -> String {
        self.push("commit", json!({"repo": repo, "ops": ops}))
    }

    pub(crate) fn create(&self, repo: &str, path: &str, record: Value) -> String {
        self.write("create", repo, path, record)
    }

    pub(crate) fn update(&self, repo: &str, path: &str, record: Value) -> String {
        self.write("update", repo, path, record)
    }

    pub(crate) fn delete(&self, repo: &str, path: &str) -> String {
        self.commit(repo, json!([{"action": "delete", "path": path}]))
    }

    /// Appends many events quickly, with the seqs that they carry.
    pub(crate) fn push_events(&self, events: impl IntoIterator<Item = Event>) -> Sent {
        let mut connection = self.redis();
        let mut sent = Sent::default();
        let mut pipe = redis::pipe();
        for event in events {
            sent.count(&event.kind);
            pipe.cmd("XADD").arg(EVENTS).arg("*").arg("type").arg(&event.kind);
            pipe.arg("data").arg(&event.data).arg("seq").arg(&event.seq).ignore();
            if pipe.len() == N_PIPELINED {
                pipe.query::<()>(&mut connection).expect("XADD");
                pipe.clear();
            }
        }
        if !pipe.is_empty() {
            pipe.query::<()>(&mut connection).expect("XADD");
        }
        sent
    }

    /// Has every entry of the stream delivered again. Nothing may be pending.
    pub(crate) fn redeliver(&self) {
        assert_eq!(self.pending(), 0, "entries still pending before a redelivery");
        cmd("XGROUP")
            .arg("SETID")
            .arg(EVENTS)
            .arg(GROUP)
            .arg("0")
            .exec(&mut self.redis())
            .expect("XGROUP SETID");
    }

    /// Makes the group as a worker would, for a test that reads before the first worker starts.
    pub(crate) fn create_group(&self) {
        let mut connection = self.redis();
        cmd("XGROUP")
            .arg(&["CREATE", EVENTS, GROUP, "0", "MKSTREAM"])
            .exec(&mut connection)
            .expect("XGROUP CREATE");
    }

    /// Reads new entries as some consumer and leaves them pending, as a worker does that dies.
    pub(crate) fn read_and_abandon(&self, consumer: &str, n_entries: usize) {
        let mut command = cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(GROUP)
            .arg(consumer)
            .arg("COUNT")
            .arg(n_entries)
            .arg("STREAMS")
            .arg(EVENTS)
            .arg(">");
        command.exec(&mut self.redis()).expect("XREADGROUP");
    }

    pub(crate) fn next_seq(&self) -> String {
        (self.last_seq.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }

    fn write(&self, action: &str, repo: &str, path: &str, record: Value) -> String {
        let cid = cid_for(path, &record);
        self.commit(
            repo,
            json!([{"action": action, "path": path, "cid": cid, "record": record}]),
        )
    }

    fn add(&self, id: &str, fields: &[(&str, &[u8])]) -> String {
        let mut command = cmd("XADD");
        command.arg(EVENTS).arg(id);
        for (name, value) in fields {
            command.arg(name).arg(*value);
        }
        command.query(&mut self.redis()).expect("XADD")
    }
}

/// The worker.
impl Stack {
    /// A worker for this stack's servers, to be given more settings and started.
    pub(crate) fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new()
            .env("REDIS_URL", &self.redis_url())
            .env("DATABASE_URL", &self.database_url())
    }

    /// Applies all that is in the stream; panics with the log unless that ends well.
    #[track_caller]
    pub(crate) fn drain(&self) -> Output {
        self.drain_with(&[])
    }

    /// The same with more settings.
    #[track_caller]
    pub(crate) fn drain_with(&self, env: &[(&str, &str)]) -> Output {
        let worker = env.iter().fold(self.worker().arg("--drain"), |worker, (name, value)| {
            worker.env(name, value)
        });
        let output = worker.run_to_exit();
        assert!(
            output.status.success(),
            "--drain ends with {}; its log:\n{}",
            output.status,
            output.log
        );
        output
    }
}

/// What came out.
impl Stack {
    pub(crate) fn redis(&self) -> Connection {
        self.redis.connection()
    }

    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn database_url(&self) -> String {
        self.database.url()
    }

    /// The rows of a table as JSON objects, without the columns that hold the wall clock, in the order of their text.
    pub(crate) fn rows(&self, table: &str) -> Vec<Value> {
        snapshot::rows(&mut self.database.client(), table)
    }

    /// All that the worker writes, table by table.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::take(&mut self.database.client())
    }

    /// Runs any statements.
    pub(crate) fn sql(&self, statements: &str) {
        self.database
            .client()
            .batch_execute(statements)
            .unwrap_or_else(|error| panic!("{:?}\nin {statements}", error.as_db_error()));
    }

    /// The rows of a query as JSON objects.
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        snapshot::query(&mut self.database.client(), query)
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        let query = format!("select count(*) from {table}");
        self.database
            .client()
            .query_one(&query, &[])
            .unwrap_or_else(|error| panic!("{query}: {error}"))
            .get(0)
    }

    /// The counters of one of the metrics hashes.
    pub(crate) fn metrics(&self, key: &str) -> BTreeMap<String, i64> {
        cmd("HGETALL").arg(key).query(&mut self.redis()).expect("HGETALL")
    }

    /// One counter of a metrics hash; 0 where it is absent.
    pub(crate) fn metric(&self, key: &str, field: &str) -> i64 {
        self.metrics(key).get(field).copied().unwrap_or(0)
    }

    /// Entries delivered and not acknowledged; 0 where there is no group.
    pub(crate) fn pending(&self) -> i64 {
        self.groups().first().map_or(0, |group| number(group, "pending"))
    }

    /// Entries delivered and acknowledged; 0 where there is no group.
    pub(crate) fn acknowledged(&self) -> i64 {
        // Redis reports no number before the first delivery.
        let is_new = |group: &BTreeMap<String, String>| group["entries-read"].is_empty();
        let read = |group: &BTreeMap<String, String>| match is_new(group) {
            true => 0,
            false => number(group, "entries-read") - number(group, "pending"),
        };
        self.groups().first().map_or(0, read)
    }

    /// Clients that wait in Redis for new entries.
    pub(crate) fn blocked_clients(&self) -> i64 {
        let info: String = cmd("INFO").arg("clients").query(&mut self.redis()).expect("INFO");
        let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        blocked.and_then(|text| text.parse().ok()).expect("blocked_clients")
    }

    /// The reply to XINFO GROUPS as text; empty if there is no stream.
    pub(crate) fn groups(&self) -> Vec<BTreeMap<String, String>> {
        let answer: redis::RedisResult<Vec<BTreeMap<String, Option<String>>>> =
            cmd("XINFO").arg("GROUPS").arg(EVENTS).query(&mut self.redis());
        let groups = answer.unwrap_or_default();
        let text = |(name, value): (String, Option<String>)| (name, value.unwrap_or_default());
        groups
            .into_iter()
            .map(|group| group.into_iter().map(text).collect())
            .collect()
    }

    pub(crate) fn stream_len(&self) -> i64 {
        cmd("XLEN").arg(EVENTS).query(&mut self.redis()).expect("XLEN")
    }

    /// The fields of every dead letter, oldest first.
    pub(crate) fn dead_letters(&self) -> Vec<BTreeMap<String, String>> {
        let entries: Vec<(String, BTreeMap<String, Vec<u8>>)> = cmd("XRANGE")
            .arg(DEAD_LETTERS)
            .arg("-")
            .arg("+")
            .query(&mut self.redis())
            .expect("XRANGE");
        // What came may be no text.
        let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
        entries
            .into_iter()
            .map(|(_, fields)| fields.into_iter().map(text).collect())
            .collect()
    }

    /// Asserts that both metrics hashes count exactly these events and no errors.
    #[track_caller]
    pub(crate) fn assert_counted(&self, sent: Sent) {
        for key in ["firehose:metrics", "cluster:metrics"] {
            let metrics = self.metrics(key);
            let counted = |field: &str| metrics.get(field).copied().unwrap_or(0);
            let counted = Sent {
                total: counted("totalEvents"),
                commit: counted("#commit"),
                identity: counted("#identity"),
                account: counted("#account"),
            };
            assert_eq!(counted, sent, "{key} against the events sent: {metrics:?}");
            assert_eq!(
                self.metric(key, "errors"),
                0,
                "errors in {key}; dead letters: {:?}",
                self.dead_letters()
            );
        }
    }

    /// Asserts that every entry has been read and acknowledged, and that there is no dead letter.
    #[track_caller]
    pub(crate) fn assert_all_acknowledged(&self) {
        assert_eq!(
            self.dead_letters(),
            Vec::<BTreeMap<String, String>>::new(),
            "dead letters"
        );
        let groups = self.groups();
        assert_eq!(self.pending(), 0, "pending entries: {groups:?}");
        let newest: Vec<(String, BTreeMap<String, String>)> = cmd("XREVRANGE")
            .arg(&[EVENTS, "+", "-", "COUNT", "1"])
            .query(&mut self.redis())
            .expect("XREVRANGE");
        let (newest, _) = newest.first().expect("an empty stream");
        assert_eq!(&groups[0]["last-delivered-id"], newest, "unread entries: {groups:?}");
    }

    /// Every counter of post_aggregations is the number of rows that it counts; a missing row counts as zeros.
    #[track_caller]
    pub(crate) fn assert_counters_equal_rows(&self) {
        let wrong = self.query(COUNTERS_AGAINST_ROWS);
        let shown: Vec<String> = wrong.iter().take(20).map(Value::to_string).collect();
        assert!(
            wrong.is_empty(),
            "{} counters differ from their rows:\n{}",
            wrong.len(),
            shown.join("\n")
        );
    }
}

impl Sent {
    pub(crate) fn count(&mut self, kind: &str) {
        self.total += 1;
        match kind {
            "commit" => self.commit += 1,
            "identity" => self.identity += 1,
            "account" => self.account += 1,
            _ => panic!("an event of type {kind}"),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            commit: self.commit + other.commit,
            identity: self.identity + other.identity,
            account: self.account + other.account,
        }
    }

    /// The counts after the same events were delivered `n` times.
    pub(crate) fn times(self, n: i64) -> Self {
        Self {
            total: n * self.total,
            commit: n * self.commit,
            identity: n * self.identity,
            account: n * self.account,
        }
    }
}

/// A log whose end is shown when an assertion about the worker fails.
pub(crate) fn shown(log: &str) -> String {
    format!("the worker's log ends:\n{}", tail(log, 40))
}

/// A dead letter without most of its data.
fn excerpt(letter: &BTreeMap<String, String>) -> String {
    let short = |(name, value): (&String, &String)| format!("{name}={}", value.chars().take(400).collect::<String>());
    letter.iter().map(short).collect::<Vec<_>>().join(" ")
}

fn number(fields: &BTreeMap<String, String>, name: &str) -> i64 {
    // A group that has read nothing has no number of entries read.
    match fields[name].as_str() {
        "" => 0,
        digits => digits.parse().unwrap_or_else(|_| panic!("{name} of {fields:?}")),
    }
}

const COUNTERS_AGAINST_ROWS: &str = "
    with counted as (
        select uri,
               count(*) filter (where what = 'like') as like_count,
               count(*) filter (where what = 'repost') as repost_count,
               count(*) filter (where what = 'reply') as reply_count,
               count(*) filter (where what = 'bookmark') as bookmark_count,
               count(*) filter (where what = 'quote') as quote_count
          from (select 'like' as what, post_uri as uri from likes
                union all select 'repost', post_uri from reposts
                union all select 'reply', parent_uri from posts where parent_uri is not null
                union all select 'bookmark', post_uri from bookmarks
                union all select 'quote', quoted_uri from quotes) as r
         group by uri)
    select coalesce(a.post_uri, c.uri) as uri,
           array[a.like_count, a.repost_count, a.reply_count, a.bookmark_count, a.quote_count] as counters,
           array[c.like_count, c.repost_count, c.reply_count, c.bookmark_count, c.quote_count] as rows,
           'like repost reply bookmark quote' as order
      from post_aggregations a
      full join counted c on c.uri = a.post_uri
     where (coalesce(a.like_count, 0), coalesce(a.repost_count, 0), coalesce(a.reply_count, 0),
            coalesce(a.bookmark_count, 0), coalesce(a.quote_count, 0))
        is distinct from
           (coalesce(c.like_count, 0), coalesce(c.repost_count, 0), coalesce(c.reply_count, 0),
            coalesce(c.bookmark_count, 0), coalesce(c.quote_count, 0))";
