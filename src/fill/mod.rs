//! Writes what accounts missed before they became local: notifications of the last 30 days, and all viewer states.
//!
//! Owns the walk: *rounds*, each for the accounts that had entered when it began, through the steps of `steps` in slices.
//! Each slice is a short transaction that gives way to workers. The end of the last slice is stored, so that another
//! process continues after a kill.
//!
//! Invariant: an account is marked as filled only after a round that began after it had entered. From then on, every
//! commit of a worker writes the account's rows (`local`), so what the round finds stored, and what workers write, is
//! everything. A row that both write is written once, because both use its key.

pub mod keep;
pub mod states;
mod steps;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::job::{Hold, Job};
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::settings::config::{Accounts, Switches};
use steps::{Kind, Round, STEPS, Step};

/// The job's name in `firehose_worker.progress`.
pub const JOB: &str = "fill";

/// How far back notifications are filled.
const NOTIFICATIONS_OF: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often the progress is logged.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    pub notifications: bool,
    pub viewer_states: bool,
}

impl What {
    /// Everything that is written for any of `accounts`.
    pub fn written_for(switches: Switches, accounts: &[Accounts]) -> What {
        What {
            notifications: accounts.contains(&switches.notifications),
            viewer_states: accounts.contains(&switches.viewer_states),
        }
    }

    pub fn is_nothing(self) -> bool {
        !self.notifications && !self.viewer_states
    }

    fn includes(self, kind: Kind) -> bool {
        match kind {
            Kind::Notifications => self.notifications,
            Kind::ViewerStates => self.viewer_states,
        }
    }
}

/// The stored progress.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The accounts that a person has asked for, sorted; empty for all. `None` if a worker fills.
    pub asked: Option<Vec<String>>,
    round: Option<Place>,
    pub filled: Filled,
}

impl State {
    /// Before the first round of a fill that a person has asked for.
    pub fn asked_for(dids: Vec<String>) -> State {
        State {
            asked: Some(dids),
            ..State::default()
        }
    }
}

/// The place in a round: the end of its last slice.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The largest number of the accounts of the round.
    number: i64,
    /// The microsecond since 1970 from which on notifications are filled.
    since: i64,
    /// The name of the step; empty before the first.
    step: String,
    /// The account, in a step that walks through the rows of one account after the other.
    did: String,
    after: Vec<String>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    pub accounts: u64,
    pub notifications: u64,
    pub viewer_states: u64,
}

/// How long to pause after a slice.
#[derive(Clone, Copy)]
pub enum Pause {
    Of(Duration),
    /// As long as the slice took, so that a worker on the same machine keeps at least half of the time.
    AsLong,
}

/// A fill by this process.
pub struct Fill<'f> {
    pub job: &'f Job,
    pub hold: &'f Hold,
    pub what: What,
    pub pause: Pause,
    pub state: State,
    said: Instant,
}

impl<'f> Fill<'f> {
    pub fn new(job: &'f Job, hold: &'f Hold, what: What, pause: Pause, state: State) -> Fill<'f> {
        Fill {
            job,
            hold,
            what,
            pause,
            state,
            said: Instant::now(),
        }
    }

    /// Fills until no account misses anything.
    ///
    /// # Errors
    ///
    /// Fails if a stop is requested, if another process takes over, or if a statement can never succeed.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let what = self.what;
        loop {
            let (number, mut dids) = self.job.attempt(|client| pending(client, what))?;
            let place = match self.state.round.take() {
                // A round of which all accounts have left is over.
                Some(place) if dids.iter().any(|(_, number)| *number <= place.number) => place,
                _ if dids.is_empty() => break,
                _ => Place {
                    number,
                    since: since(),
                    ..Place::default()
                },
            };
            dids.retain(|(_, number)| *number <= place.number);
            dids.sort_unstable();
            let dids: Vec<String> = dids.into_iter().map(|(did, _)| did).collect();
            self.round(place, &dids)?;
        }
        self.job.attempt(|client| self.hold.end(client))
    }

    fn round(&mut self, mut place: Place, dids: &[String]) -> anyhow::Result<()> {
        let seen = self.job.attempt(steps::statement_of_seen)?;
        let round = Round {
            dids: HashSet::from_iter(dids.iter().cloned()),
            since: Micros(place.since),
            seen,
        };
        let done = STEPS.iter().position(|step| step.name == place.step).unwrap_or(0);
        let what = self.what;
        for step in STEPS[done..].iter().filter(|step| what.includes(step.kind)) {
            if place.step != step.name {
                step.name.clone_into(&mut place.step);
                place.did.clear();
                place.after.clear();
            }
            place = self.step(step, &round, dids, place)?;
        }
        let number = place.number;
        self.state.filled.accounts += dids.len() as u64;
        let text = store(&self.state);
        self.job.attempt(|client| {
            transaction(client, |client| {
                done_up_to(client, number, what)?;
                self.hold.save(client, &text)
            })
        })
    }

    fn step(&mut self, step: &Step, round: &Round, dids: &[String], mut place: Place) -> anyhow::Result<Place> {
        let all = [String::new()];
        let dids = if step.of_each { dids } else { &all };
        let first = dids.partition_point(|did| *did < place.did);
        for did in &dids[first..] {
            if *did != place.did {
                did.clone_into(&mut place.did);
                place.after.clear();
            }
            loop {
                let began = Instant::now();
                let Some((last, written)) = self.slice(step, round, did, &place.after)? else {
                    break;
                };
                place.after = last;
                let filled = &mut self.state.filled;
                match step.kind {
                    Kind::Notifications => filled.notifications += written,
                    Kind::ViewerStates => filled.viewer_states += written,
                }
                place = self.save(place)?;
                self.say(step);
                self.job.stop.wait(match self.pause {
                    Pause::Of(pause) => pause,
                    Pause::AsLong => began.elapsed(),
                });
                self.job.stop.check()?;
            }
        }
        Ok(place)
    }

    /// Fills the next slice. Returns its end and the number of rows written; `None` if there are no more slices.
    fn slice(
        &self,
        step: &Step,
        round: &Round,
        did: &str,
        after: &[String],
    ) -> anyhow::Result<Option<(Vec<String>, u64)>> {
        let read = |client: &mut Client| transaction(client, |client| (step.find)(client, round, did, after));
        let Some(found) = self.job.attempt(read)? else {
            return Ok(None);
        };
        let mut written = 0;
        if !found.uris.is_empty() {
            written = self
                .job
                .attempt(|client| (step.write)(client, round, did, &found.uris))?;
        }
        Ok(Some((found.last, written)))
    }

    fn save(&mut self, place: Place) -> anyhow::Result<Place> {
        self.state.round = Some(place);
        let text = store(&self.state);
        self.job
            .attempt(|client| transaction(client, |client| self.hold.save(client, &text)))?;
        Ok(self.state.round.take().unwrap_or_default())
    }

    fn say(&mut self, step: &Step) {
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let Filled {
                notifications,
                viewer_states,
                ..
            } = self.state.filled;
            log::info!(
                "filling, {}: {notifications} notifications and {viewer_states} viewer states written",
                step.name
            );
        }
    }
}

/// The state as it is stored.
pub fn store(state: &State) -> String {
    serde_json::to_string(state).expect("names and numbers are JSON")
}

/// Reads a stored state. One that another version has stored counts as none.
pub fn load(text: &str) -> State {
    serde_json::from_str(text).unwrap_or_default()
}

/// The accounts that still miss something, each with its number, and their largest number.
fn pending(client: &mut Client, what: What) -> Result<(i64, Vec<(String, i64)>), ApplyError> {
    let rows = Params::new()
        .boolean(what.notifications)
        .boolean(what.viewer_states)
        .query(client, sql::FILL_PENDING)?;
    let number = rows.first().map_or(Ok(0), |row| row.get("number"))?;
    let dids = rows.iter().map(|row| Ok((row.get("did")?, row.get("number")?)));
    Ok((number, dids.collect::<Result<_, ApplyError>>()?))
}

fn done_up_to(client: &mut Client, number: i64, what: What) -> Result<(), ApplyError> {
    Params::new()
        .long(number)
        .boolean(what.notifications)
        .boolean(what.viewer_states)
        .execute(client, sql::FILL_DONE)?;
    Ok(())
}

/// Marks accounts as missing something, so that they are filled again; all of them if `dids` is empty.
pub fn again(client: &mut Client, dids: &[String], what: What) -> Result<(), ApplyError> {
    Params::new()
        .texts(dids.iter())
        .boolean(dids.is_empty())
        .boolean(what.notifications)
        .boolean(what.viewer_states)
        .execute(client, sql::FILL_AGAIN)?;
    Ok(())
}

fn since() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(NOTIFICATIONS_OF).as_micros() as i64
}
