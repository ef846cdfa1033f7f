//! Random histories against a model: the tables match it whatever happens in whatever order, and however the entries
//! are batched, redelivered and distributed over threads.
//!
//! `FIREHOSE_TEST_HISTORIES` histories (2000) are played, from seed `FIREHOSE_TEST_SEED` (1) on, in groups that share a
//! database. A failure prints the seed, what differs, and the smallest history found that still differs.

mod columns;
mod compare;
pub(crate) mod history;
mod model;
pub(crate) mod play;
mod shrink;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use postgres::Client;

use self::compare::{Found, differences};
use self::history::History;
use self::play::{Way, play, play_by_binary};
use crate::support::{Database, PostgresServer, Snapshot, Stack};

/// Groups that are played at the same time.
const N_PLAYERS: usize = 2;

/// Runs that are spent on making a history smaller.
const N_SHRINKS: usize = 400;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var_os(name) {
        None => default,
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not a number: {text:?}")),
    }
}

#[test]
fn random_histories_match_the_model() {
    let (first, n) = (number("FIREHOSE_TEST_SEED", 1), number("FIREHOSE_TEST_HISTORIES", 2000));
    let next = Mutex::new(first);
    let (n_played, n_refused) = (AtomicU64::new(0), AtomicUsize::new(0));
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..N_PLAYERS {
            scope.spawn(|| {
                let mut player = Player::new();
                loop {
                    let group = {
                        let mut next = next.lock().expect("no thread panics with the lock");
                        if *next >= first + n || failure.lock().expect("no thread panics with the lock").is_some() {
                            break;
                        }
                        let way = Way::of_seed(*next);
                        let end = (*next + way.n_histories()).min(first + n);
                        let histories: Vec<History> = (*next..end).map(History::of_seed).collect();
                        *next = end;
                        (way, histories)
                    };
                    match player.play(&group.0, &group.1) {
                        Ok(refused) => {
                            n_played.fetch_add(group.1.len() as u64, Ordering::Relaxed);
                            n_refused.fetch_add(refused, Ordering::Relaxed);
                        }
                        Err(text) => *failure.lock().expect("no thread panics with the lock") = Some(text),
                    }
                }
            });
        }
    });
    if let Some(text) = failure.into_inner().expect("no thread panics with the lock") {
        panic!("{text}");
    }
    assert_eq!(n_played.into_inner(), n);
    assert!(
        n < 1000 || n_refused.into_inner() > 0,
        "no op was refused by the database"
    );
}

/// The binary takes as long for a few histories as for many, so it gets them at once.
#[test]
fn random_histories_through_the_binary_match_the_model() {
    let first = number("FIREHOSE_TEST_SEED", 1);
    let n = number("FIREHOSE_TEST_HISTORIES", 2000).clamp(20, 2000) / 20;
    let way = Way {
        batch: 40,
        ..Way::of_seed(first)
    };
    let histories: Vec<History> = (first..first + n).map(History::of_seed).collect();
    let stack = Stack::new("histories_binary");
    let models = play_by_binary(&stack, &histories, &way);
    let found = Found::of(&Snapshot::take_with_times(&mut stack.database.client()));
    for (history, model) in histories.iter().zip(&models) {
        let differences = differences(model, history.seed, &found);
        assert!(
            differences.is_empty(),
            "seed {} differs from the model:{differences}\nin this history:{}\n{way:?}",
            history.seed,
            history.describe()
        );
    }
}

/// A database in which one group after the other is played.
struct Player {
    database: Database,
    client: Client,
}

impl Player {
    fn new() -> Self {
        let database = Database::new(PostgresServer::shared(), "histories");
        let mut client = database.client();
        client
            .batch_execute(firehose_worker::postgres::sql::OWN_SCHEMA)
            .expect("the worker's own tables");
        Self { database, client }
    }

    /// Plays a group; answers how many ops the database refused, or what differs, as small as it can be had.
    fn play(&mut self, way: &Way, histories: &[History]) -> Result<usize, String> {
        let of_group = match self.check(way, histories) {
            Ok(refused) => return Ok(refused),
            Err(text) => text,
        };
        let (first, n) = (way.seed, histories.len());
        let again = format!("FIREHOSE_TEST_SEED={first} FIREHOSE_TEST_HISTORIES={n} plays this group again; {way:?}");
        for history in histories {
            if self.check(way, std::slice::from_ref(history)).is_err() {
                let smallest = shrink::smallest(history.clone(), N_SHRINKS, |smaller| {
                    self.check(way, std::slice::from_ref(smaller)).is_err()
                });
                let text = self
                    .check(way, std::slice::from_ref(&smallest))
                    .err()
                    .unwrap_or_default();
                return Err(format!(
                    "seed {} differs from the model:{text}\nin this history:{}\n{again}",
                    history.seed,
                    smallest.describe()
                ));
            }
        }
        let needed = self.needed(way, histories);
        let histories: String = needed.iter().map(History::describe).collect();
        Err(format!(
            "together, though none of them alone, these differ from the model:{of_group}\nin these histories:{histories}\n{again}"
        ))
    }

    /// Those of a group's histories without which nothing differs.
    fn needed(&mut self, way: &Way, histories: &[History]) -> Vec<History> {
        let mut needed = histories.to_vec();
        for history in histories {
            let others: Vec<_> = needed
                .iter()
                .filter(|other| other.seed != history.seed)
                .cloned()
                .collect();
            if self.check(way, &others).is_err() {
                needed = others;
            }
        }
        needed
    }

    /// What differs when histories are played together.
    fn check(&mut self, way: &Way, histories: &[History]) -> Result<usize, String> {
        self.empty();
        let played = play(&self.database, &mut self.client, histories, way);
        let found = Found::of(&Snapshot::take_with_times(&mut self.client));
        let mut text = played.wrong;
        for (history, model) in histories.iter().zip(&played.models) {
            let differences = differences(model, history.seed, &found);
            if !differences.is_empty() {
                text.push_str(&format!("\n seed {}:{differences}", history.seed));
            }
        }
        if text.is_empty() {
            Ok(played.models.iter().map(|model| model.refused).sum())
        } else {
            Err(text)
        }
    }

    fn empty(&mut self) {
        let query = "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables
                     WHERE schemaname IN ('public', 'firehose_worker')";
        let row = self.client.query_one(query, &[]).expect("the names of the tables");
        let tables: String = row.get(0);
        self.client
            .batch_execute(&format!("TRUNCATE {tables}"))
            .expect("TRUNCATE");
    }
}
