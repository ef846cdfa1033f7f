//! Plays histories: many at once, by the library's own steps in this process, or by the binary between real servers.

use std::borrow::Cow;

use fastrand::Rng;
use firehose_worker::apply::{self, Memory, PageKeys};
use firehose_worker::decode::{self, EntryError};
use firehose_worker::entry::{Entry, EntryId};
use firehose_worker::metrics::RecordCounts;
use firehose_worker::partition;
use firehose_worker::postgres::client::Client as Session;
use firehose_worker::postgres::fault::Fault;
use firehose_worker::rows::{self, Change, Op, Source, Table};
use firehose_worker::settings::config::{Accounts, Switches};
use postgres::Client;

use super::history::{Event, History, Phase};
use super::model::{Model, Switched, seq_of};
use crate::records::redeliver_after;
use crate::support::{Database, EVENTS, GROUP, Stack, wait_until};

/// How a group of histories is played; a function of the seed of its first.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) seed: u64,
    /// Entries that share a transaction at most.
    pub(crate) batch: usize,
    pub(crate) workers: usize,
    pub(crate) switched: Switched,
    /// Whether entries are delivered again.
    pub(crate) repeats: bool,
}

impl Way {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut mostly = |percent| rng.u32(..100) < percent;
        let switched = Switched {
            notifications: mostly(85),
            viewer_states: mostly(85),
            generic_records: mostly(85),
        };
        let repeats = mostly(60);
        Self {
            seed,
            batch: [1, 3, 10, 40, 200, 200, 2000, 2000][rng.usize(..8)],
            workers: [1, 2, 3, 4][rng.usize(..4)],
            switched,
            repeats,
        }
    }

    /// Histories that are played together: small batches cost the most.
    pub(crate) fn n_histories(&self) -> u64 {
        match self.batch {
            1 => 10,
            3 => 20,
            10 => 40,
            _ => 80,
        }
    }

    fn switches(&self) -> Switches {
        Switches {
            notifications: accounts(self.switched.notifications),
            viewer_states: accounts(self.switched.viewer_states),
            generic_records: self.switched.generic_records,
        }
    }
}

fn accounts(is_on: bool) -> Accounts {
    if is_on { Accounts::All } else { Accounts::None }
}

/// What a whole group has come to.
pub(crate) struct Played {
    pub(crate) models: Vec<Model>,
    /// What the app could not do, and differences between the rows and what was counted for db:record_counts.
    pub(crate) wrong: String,
}

/// The entries of a phase of all histories, in the order of their IDs.
pub(crate) fn entries(histories: &[History], phase: usize) -> Vec<Entry> {
    let of_history = |history: &History| {
        let seed = history.seed;
        let events = history.phases.get(phase).map(Phase::stream).unwrap_or_default();
        events.into_iter().map(move |event| entry(&event, seed))
    };
    let mut entries: Vec<Entry> = histories.iter().flat_map(of_history).collect();
    entries.sort_by_key(|entry| entry.id);
    entries
}

fn entry(event: &Event, seed: u64) -> Entry {
    let (kind, data) = event.wire();
    let seq = if event.has_seq { seq_of(event) } else { String::new() };
    Entry {
        id: EntryId {
            ms: event.ms(),
            n: seed,
        },
        kind: Some(kind.as_bytes().into()),
        data: Some(data.into_bytes().into()),
        seq: Some(seq.into_bytes().into()),
        deliveries: 1,
    }
}

/// What the app does at the start of a phase, to the models and in the database; answers what it could not do.
fn act(client: &mut Client, histories: &[History], models: &mut [Model], phase: usize) -> String {
    let mut failed = String::new();
    for (history, model) in histories.iter().zip(models) {
        for act in history.phases.get(phase).into_iter().flat_map(|phase| &phase.acts) {
            let sql = model.act(act).unwrap_or_default();
            if let Err(error) = client.batch_execute(&sql) {
                let reason = error.as_db_error().map_or(error.to_string(), ToString::to_string);
                failed.push_str(&format!(
                    "\n seed {}: the app cannot do {act:?}: {reason}",
                    history.seed
                ));
            }
        }
    }
    failed
}

/// What the models make of a phase.
fn think(histories: &[History], models: &mut [Model], phase: usize) {
    for (history, model) in histories.iter().zip(models) {
        for event in history.phases.get(phase).into_iter().flat_map(Phase::stream) {
            model.event(&event);
        }
        model.end_phase();
    }
}

/// Plays histories in this process, on an empty database.
pub(crate) fn play(database: &Database, client: &mut Client, histories: &[History], way: &Way) -> Played {
    let mut models: Vec<Model> = histories
        .iter()
        .map(|history| Model::new(history, way.switched, way.repeats))
        .collect();
    let mut rng = Rng::with_seed(way.seed);
    let mut wrong = String::new();
    let n_phases = histories
        .iter()
        .map(|history| history.phases.len())
        .max()
        .unwrap_or_default();
    for phase in 0..n_phases {
        let began = now_ms();
        wrong.push_str(&act(client, histories, &mut models, phase));
        think(histories, &mut models, phase);
        let before = count(client);
        let mut counted = RecordCounts::default();
        for run in deliveries(&entries(histories, phase), way.repeats, &mut rng) {
            add(&mut counted, &run_workers(database, &run, way));
        }
        models
            .iter_mut()
            .for_each(|model| model.took(began, now_ms() + AHEAD_MS));
        let mut rows = count(client);
        add(&mut rows, &negative(&before));
        if rows != counted {
            wrong.push_str(&format!(
                "\n  phase {phase}: counted {counted:?}\n    but the rows are {rows:?}"
            ));
        }
    }
    Played { models, wrong }
}

/// Plays histories with the binary, with three workers in each phase. Redis returns to the state before the phase
/// twice, as soon as the first worker has read something, and then this worker is killed. The second one finishes the
/// phase. The third receives the whole phase again.
pub(crate) fn play_by_binary(stack: &Stack, histories: &[History], way: &Way) -> Vec<Model> {
    let mut models: Vec<Model> = histories
        .iter()
        .map(|history| Model::new(history, way.switched, true))
        .collect();
    let mut client = stack.database.client();
    let env = [
        ("PARALLEL_CONSUMERS", way.workers.to_string()),
        ("MAX_BATCH_ENTRIES", way.batch.to_string()),
        ("BATCH_SIZE", "10".to_owned()),
        ("WRITE_NOTIFICATIONS", way.switched.notifications.to_string()),
        ("WRITE_VIEWER_STATES", way.switched.viewer_states.to_string()),
        ("WRITE_GENERIC_RECORDS", way.switched.generic_records.to_string()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stack.create_group();
    let last_delivered = || stack.groups()[0]["last-delivered-id"].clone();
    let n_phases = histories
        .iter()
        .map(|history| history.phases.len())
        .max()
        .unwrap_or_default();
    for phase in 0..n_phases {
        let began = now_ms();
        let failed = act(&mut client, histories, &mut models, phase);
        assert!(failed.is_empty(), "{failed}");
        think(histories, &mut models, phase);
        let before = last_delivered();
        for entry in entries(histories, phase) {
            add_entry(stack, &entry);
        }
        let worker = env
            .iter()
            .fold(stack.worker(), |worker, (name, value)| worker.env(name, value));
        stack.redis.keep();
        let mut worker = worker.spawn();
        let wait_for_read = || wait_until("the worker has read something", || last_delivered() != before);
        wait_for_read();
        stack.redis.go_back();
        wait_for_read();
        set_back(stack, &before);
        wait_for_read();
        worker.kill();
        // What it has sent may still be carried out; the next one must not start beside that.
        wait_until("the killed worker's sessions have ended", || n_others(&mut client) == 0);
        stack.drain_with(&env);
        assert_eq!(stack.pending(), 0, "entries still pending before a redelivery");
        redeliver_after(stack, &before);
        stack.drain_with(&env);
        models
            .iter_mut()
            .for_each(|model| model.took(began, now_ms() + AHEAD_MS));
    }
    models
}

/// Has everything after an entry delivered again, while later entries may be in flight.
fn set_back(stack: &Stack, to: &str) {
    redis::cmd("XGROUP")
        .arg(&["SETID", EVENTS, GROUP, to])
        .exec(&mut stack.redis())
        .expect("XGROUP SETID");
}

/// Milliseconds that a recipient's notifications are ahead of the clock at most.
const AHEAD_MS: i64 = 200;

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Sessions in the database besides this one.
fn n_others(client: &mut Client) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                     AND backend_type = 'client backend'";
    client
        .query_one(query, &[])
        .unwrap_or_else(|error| panic!("{error} in {query}"))
        .get(0)
}

pub(crate) fn add_entry(stack: &Stack, entry: &Entry) {
    let mut command = redis::cmd("XADD");
    command.arg(EVENTS).arg(entry.id.to_string());
    for (name, value) in [("type", &entry.kind), ("data", &entry.data), ("seq", &entry.seq)] {
        command.arg(name).arg(value.as_deref().unwrap_or_default());
    }
    command.exec(&mut stack.redis()).expect("XADD");
}

/// The runs of a worker that apply the entries: all at once, or with a crash after some of them, after which all
/// unacknowledged entries are redelivered; and some twice in one run. A redelivery includes all later entries.
fn deliveries(entries: &[Entry], repeats: bool, rng: &mut Rng) -> Vec<Vec<Entry>> {
    let mut runs = vec![Vec::new()];
    let (mut at, mut last) = (0, Vec::new());
    if repeats && !entries.is_empty() {
        for _ in 0..1 + rng.usize(..2) {
            let end = rng.usize(at..=entries.len());
            last.extend_from_slice(&entries[at..end]);
            at = rng.usize(..=end);
            if rng.bool() {
                runs.push(std::mem::take(&mut last));
            }
        }
    }
    last.extend_from_slice(&entries[at..]);
    runs.push(last);
    runs
}

/// Applies entries as the worker's threads do, each with a separate connection.
fn run_workers(database: &Database, entries: &[Entry], way: &Way) -> RecordCounts {
    let page_keys = PageKeys::default();
    let run = |worker: usize| {
        let mine = |entry: &&Entry| partition::worker_of(entry, way.workers) == worker;
        let mine: Vec<Entry> = entries.iter().filter(mine).cloned().collect();
        let mut applier = Applier {
            client: session(database),
            memory: Memory::alone(page_keys.clone()),
            switches: way.switches(),
            counted: RecordCounts::default(),
        };
        mine.chunks(way.batch).for_each(|batch| applier.batch(batch));
        applier.counted
    };
    let mut counted = RecordCounts::default();
    std::thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..way.workers)
            .map(|worker| scope.spawn(move || run(worker)))
            .collect();
        for worker in workers {
            add(&mut counted, &worker.join().expect("a worker panicked"));
        }
    });
    counted
}

/// A session that keeps statements prepared.
fn session(database: &Database) -> Session {
    let mut client = database.client();
    let process = client.query_one("SELECT pg_backend_pid()", &[]).expect("its process");
    Session::new(client, Some(process.get(0)))
}

/// What is no fault of the data passes by itself, or never.
const MAX_TRIES: usize = 20;

/// decode → rows → fold → apply, with an op that the database refuses set apart, as `worker` does it.
struct Applier {
    client: Session,
    memory: Memory,
    switches: Switches,
    counted: RecordCounts,
}

impl Applier {
    fn batch(&mut self, entries: &[Entry]) {
        let texts: Vec<Result<Cow<str>, EntryError>> = entries.iter().map(decode::text).collect();
        let mut ops = Vec::new();
        for (index, (entry, text)) in entries.iter().zip(&texts).enumerate() {
            let text = text.as_deref().expect("histories have no such entries");
            let event = decode::decode(entry.kind.as_deref(), text).expect("histories have no such entries");
            let source = Source::new(entry, index, self.memory.page_keys().now_ms());
            for outcome in rows::outcomes(event, &source) {
                if let rows::OpOutcome::Op(op) = outcome {
                    ops.push(op);
                }
            }
        }
        self.memory
            .page_keys()
            .assign(&mut ops, self.memory.page_keys().now_ms());
        let is_switched_off = |op: &Op| {
            op.table == Table::GENERIC_RECORDS && !self.switches.generic_records && matches!(op.change, Change::Put(_))
        };
        let ops: Vec<&Op> = ops.iter().filter(|op| !is_switched_off(op)).collect();
        self.ops(&ops);
    }

    fn ops(&mut self, ops: &[&Op]) {
        let mut tries = 0;
        loop {
            let applied = apply::apply(&mut self.client, ops, self.switches, &mut self.memory);
            add(&mut self.counted, &self.memory.take_users_made());
            match applied {
                Ok(applied) => return add(&mut self.counted, &applied.record_counts),
                Err(error) if error.fault() == Fault::Data && ops.len() == 1 => return,
                Err(error) if error.fault() == Fault::Data => {
                    let (first, second) = ops.split_at(ops.len() / 2);
                    self.ops(first);
                    return self.ops(second);
                }
                Err(error) if error.fault() == Fault::Transient && tries < MAX_TRIES => tries += 1,
                Err(error) => panic!("{}", error.describe()),
            }
        }
    }
}

/// The rows that db:record_counts is about.
fn count(client: &mut Client) -> RecordCounts {
    let of = |table: &str| format!("(SELECT count(*) FROM {table})");
    let tables = [
        "users",
        "posts",
        "likes",
        "reposts",
        "follows",
        "blocks",
        "feed_items",
        "post_aggregations",
    ];
    let query = format!("SELECT {}", tables.map(of).join(", "));
    let row = client
        .query_one(&query, &[])
        .unwrap_or_else(|error| panic!("{error} in {query}"));
    RecordCounts {
        users: row.get(0),
        posts: row.get(1),
        likes: row.get(2),
        reposts: row.get(3),
        follows: row.get(4),
        blocks: row.get(5),
        feed_items: row.get(6),
        post_aggregations: row.get(7),
    }
}

fn add(sum: &mut RecordCounts, more: &RecordCounts) {
    sum.users += more.users;
    sum.posts += more.posts;
    sum.likes += more.likes;
    sum.reposts += more.reposts;
    sum.follows += more.follows;
    sum.blocks += more.blocks;
    sum.feed_items += more.feed_items;
    sum.post_aggregations += more.post_aggregations;
}

fn negative(counts: &RecordCounts) -> RecordCounts {
    RecordCounts {
        users: -counts.users,
        posts: -counts.posts,
        likes: -counts.likes,
        reposts: -counts.reposts,
        follows: -counts.follows,
        blocks: -counts.blocks,
        feed_items: -counts.feed_items,
        post_aggregations: -counts.post_aggregations,
    }
}
