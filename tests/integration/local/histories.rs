//! Random histories in which accounts become local at random moments: whatever is killed meanwhile, each of them ends
//! with exactly what it would have had if rows were written for all accounts.
//!
//! `FIREHOSE_TEST_SEED` (1) is the first of `FIREHOSE_TEST_LOCAL` (2) seeds.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::json;

use super::{inbox, local, local_worker};
use crate::records::*;
use crate::support::wait::equal;
use crate::support::{Stack, Worker, wait_until};

const N_ACCOUNTS: usize = 8;

/// Events before an account may become local again, and how often that happens.
const N_EVENTS: usize = 60;
const N_PHASES: usize = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn account(n: usize) -> String {
    format!("did:plc:account{n}")
}

/// The records that exist, and the last number given to one.
struct World {
    rng: Rng,
    alive: BTreeMap<String, Record>,
    posts: Vec<Record>,
    n_records: usize,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            rng: Rng::with_seed(seed),
            alive: BTreeMap::new(),
            posts: (0..N_ACCOUNTS).map(|n| post(&account(n), "first", "hello")).collect(),
            n_records: 0,
        }
    }

    fn subject(&mut self) -> Record {
        let index = self.rng.usize(..self.posts.len());
        self.posts[index].clone()
    }

    /// A record under `rkey`, of a kind that causes something for an account.
    fn record(&mut self, repo: &str, rkey: &str, kind: usize) -> Record {
        let subject = self.subject();
        let someone = account(self.rng.usize(..N_ACCOUNTS));
        match kind {
            0..3 => like(repo, rkey, &subject),
            3 => repost(repo, rkey, &subject),
            4 => bookmark(repo, rkey, &subject),
            5 => follow(repo, rkey, &someone),
            6 => reply(repo, rkey, &subject, &subject),
            7 => quote(repo, rkey, &subject),
            8 => mention(repo, rkey, &[&someone]),
            _ => post(repo, rkey, "hello"),
        }
    }

    /// The next event, which both stacks get.
    fn event(&mut self, stacks: [&Stack; 2]) {
        let uris: Vec<String> = self.alive.keys().cloned().collect();
        let chosen = (!uris.is_empty()).then(|| uris[self.rng.usize(..uris.len())].clone());
        match (self.rng.usize(..10), chosen) {
            (0 | 1, Some(uri)) => {
                let record = self.alive.remove(&uri).expect("it is alive");
                stacks.iter().for_each(|stack| _ = record.delete(stack));
            }
            (2, Some(uri)) => {
                let old = self.alive[&uri].clone();
                let kinds: &[usize] = match old.collection {
                    LIKE => &[0],
                    REPOST => &[3],
                    BOOKMARK => &[4],
                    FOLLOW => &[5],
                    _ => &[6, 7, 8, 9],
                };
                let kind = kinds[self.rng.usize(..kinds.len())];
                let record = self.record(&old.repo, &old.rkey, kind);
                stacks.iter().for_each(|stack| _ = record.update(stack));
                self.alive.insert(uri, record);
            }
            _ => {
                let (repo, kind) = (account(self.rng.usize(..N_ACCOUNTS)), self.rng.usize(..10));
                self.n_records += 1;
                let rkey = format!("r{}", self.n_records);
                let record = self.record(&repo, &rkey, kind);
                stacks.iter().for_each(|stack| _ = record.create(stack));
                if record.collection == POST {
                    self.posts.push(record.clone());
                }
                self.alive.insert(record.uri(), record);
            }
        }
    }
}

fn worker(stack: &Stack, number: usize) -> Worker {
    local_worker(stack)
        .env("CONSUMER_ID", &format!("worker{number}"))
        .env("CLAIM_IDLE_MS", "500")
        .spawn()
}

/// When a command is killed.
const KILL_WHEN: [Option<&str>; 4] = [
    Some("SELECT 1 AS n"),
    Some("SELECT 1 AS n FROM firehose_worker.local_dids WHERE did = $did"),
    Some("SELECT 1 AS n FROM firehose_worker.progress WHERE state->'round'->>'step' <> ''"),
    None,
];

fn logs(workers: &[Worker]) -> String {
    workers
        .iter()
        .map(|worker| worker.log())
        .collect::<Vec<_>>()
        .join("\n---\n")
}

fn is_filled(stack: &Stack) -> Result<(), String> {
    let pending = "SELECT did FROM firehose_worker.local_dids WHERE NOT (has_notifications AND has_viewer_states)";
    equal(stack.query(pending), Vec::<serde_json::Value>::new())
}

#[test]
fn accounts_that_become_local_at_random_moments_have_what_all_accounts_would_have() {
    let first = number("FIREHOSE_TEST_SEED", 1);
    for seed in first..first + number("FIREHOSE_TEST_LOCAL", 2) {
        play(seed);
    }
}

fn play(seed: u64) {
    let all = Stack::new(&format!("local_histories_all_{seed}"));
    let some = Stack::new(&format!("local_histories_some_{seed}"));
    // Creates the worker's own tables.
    some.drain_with(&local(""));
    let mut world = World::new(seed);
    let mut rng = Rng::with_seed(seed ^ 0x006c_6f63_616c);
    let mut running = vec![worker(&some, 0), worker(&some, 1)];
    let mut n_events = 0;
    for phase in 0..N_PHASES {
        for _ in 0..N_EVENTS {
            world.event([&all, &some]);
            n_events += 1;
        }
        let did = account(phase);
        let mut fill = local_worker(&some).arg("fill").arg(&did).arg("--pause-ms=5").spawn();
        for _ in 0..N_EVENTS {
            world.event([&all, &some]);
            n_events += 1;
        }
        // The first command is never killed before the account is local.
        if let Some(condition) = KILL_WHEN[rng.usize(usize::from(phase == 0)..KILL_WHEN.len())] {
            let condition = condition.replace("$did", &format!("'{did}'"));
            wait_until("the command is to be killed", || {
                let is_due = !fill.runs() || !some.query(&condition).is_empty();
                is_due.then_some(()).ok_or_else(|| fill.log())
            });
            fill.kill();
        }
        if rng.bool() {
            running.swap_remove(rng.usize(..running.len())).kill();
            running.push(worker(&some, phase + 2));
        }
    }
    all.drain();
    wait_until("all entries are applied", || {
        equal(some.acknowledged(), n_events).map_err(|error| format!("seed {seed}: {error}\n{}", logs(&running)))
    });
    // What a killed command has left unfinished is continued a minute after its last sign of life.
    some.sql("UPDATE firehose_worker.progress SET updated_at = now() - interval '2 minutes'");
    wait_until("the accounts are filled", || {
        is_filled(&some).map_err(|error| format!("seed {seed}: {error}\n{}", logs(&running)))
    });
    // A command that was killed before it named its account has not made it local.
    let local = some.query("SELECT did FROM firehose_worker.local_dids ORDER BY did");
    let dids: Vec<&str> = local.iter().filter_map(|row| row["did"].as_str()).collect();
    assert!(!dids.is_empty(), "seed {seed}: no account became local");
    let (wanted, found) = (inbox(&all, &dids), inbox(&some, &dids));
    let only = |these: &[serde_json::Value], those: &[serde_json::Value]| {
        let rows = these.iter().filter(|row| !those.contains(row));
        rows.map(|row| format!("\n  {row}")).collect::<String>()
    };
    assert!(
        wanted == found,
        "seed {seed}, local {dids:?}\nmissing:{}\ntoo many:{}\n{}",
        only(&wanted, &found),
        only(&found, &wanted),
        logs(&running)
    );
    some.assert_counters_equal_rows();
    let others = some.query("SELECT DISTINCT recipient_did FROM notifications");
    let is_local = |row: &serde_json::Value| dids.iter().any(|did| row["recipient_did"] == json!(did));
    assert!(others.iter().all(is_local), "seed {seed}: {others:?}");
}
