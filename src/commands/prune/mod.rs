//! The command `prune`: deletes what is older than a limit and concerns no local account, beside running workers.
//!
//! Owns the walk through the tables in slices. A slice is read without locks; then its rows are deleted in short
//! transactions that give way to workers. A stop, a lost server or a kill may interrupt the walk. What a transaction
//! deletes, and in which order, is decided in `apply::prune`.
//!
//! Invariant: the progress, with the numbers of deleted rows, is stored in the transaction that deletes them, and only
//! while this process holds the job. Therefore nothing is counted twice or not at all, whatever interrupts the walk and
//! however many prunes are started.

mod accounts;
mod dashboard;
mod posts;
mod progress;
mod protection;
mod report;
mod rights;
mod rows;
mod screen;
mod sizes;

use std::time::{Duration, Instant};

use crate::apply::prune::Pruned;
use crate::job::{Hold, Job, yielding};
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::db::Db;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::redis::link::Redis;
use crate::runtime::shutdown::{Stop, Stopped, handle_signals};
use crate::settings::cli;
use crate::settings::config::Config;
use accounts::Accounts;
use dashboard::Dashboard;
use progress::{Place, State};
pub use rights::DELETED;
use screen::Screen;
use sizes::Sizes;

/// A kind of row that is pruned.
pub struct Step {
    /// Its name in the report and the stored progress.
    pub name: &'static str,
    /// The table that it walks through.
    pub table: &'static str,
    /// The maximum number of rows of that table in a transaction.
    chunk: usize,
    /// Reads the slice after a place. `None` if no rows are left.
    read: fn(&mut Client, &Context, &Place) -> Result<Option<Slice>, ApplyError>,
    /// Deletes a chunk of a slice, or a part of it.
    delete: fn(&mut Client, &Context, &[String]) -> Result<Pruned, ApplyError>,
    /// Counts the rows that `delete` would delete.
    count: fn(&mut Client, &Context, &[String]) -> Result<Pruned, ApplyError>,
}

/// In the order of the walk. Posts come first: what is left of them is found by the later steps.
pub static STEPS: [Step; 8] = [
    posts::POSTS,
    posts::SUBJECTS,
    rows::NOTIFICATIONS,
    rows::GENERIC_RECORDS,
    rows::THREAD_CONTEXTS,
    rows::THREAD_GATES,
    rows::POST_GATES,
    rows::RIVALS,
];

/// What decides which rows go.
pub struct Context {
    limit: Micros,
    accounts: Accounts,
}

/// What a slice contained.
pub struct Slice {
    /// Where the next begins.
    last: Place,
    examined: u64,
    /// Rows from before the limit that stay because they concern a local account.
    kept: u64,
    /// The keys of the rows that go, sorted.
    going: Vec<String>,
}

/// The name of the job.
const JOB: &str = "prune";

/// How often the followed accounts are read again, and at least the local ones.
const REFRESH: Duration = Duration::from_secs(60);

/// Prunes until the end or until a stop is requested; returns the report for people or, if that was asked for, as JSON.
///
/// # Errors
///
/// Fails if tables or privileges are missing, if a statement can never succeed, or if another
/// process has taken over the job.
pub fn run(config: Config, options: &cli::Prune, age: Duration) -> anyhow::Result<String> {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let stop = Stop::default();
    handle_signals(&stop, None)?;
    let job = Job {
        db: Db::new(config.postgres.clone(), 1, &stop),
        stop,
        name: JOB,
        if_slow: "start it again, it continues from here",
    };
    job.check_ready(true, &rights::needed(options.dry_run))?;
    accounts::register(&job, &config)?;
    let accounts = Accounts::read(&job)?;
    if accounts.is_empty() {
        log::warn!(
            "no account is local, so that no post is protected: name the accounts that this AppView serves in LOCAL_DIDS"
        );
    }
    let limit = limit(&job, age)?;
    let mut prune = Prune {
        context: Context { limit, accounts },
        sizes: Sizes::read(&job)?,
        state: State::new(age, limit, options.dry_run),
        hold: (!options.dry_run).then(|| Hold::new(JOB)),
        dashboard: Dashboard::new(&Redis::new(config.redis.clone()), &config),
        screen: Screen::default(),
        age,
        started: Instant::now(),
        seconds_before: 0.0,
        job,
        options,
    };
    let ended = prune.run();
    prune.screen.end();
    match ended {
        Ok(()) => {}
        Err(error) if error.is::<Stopped>() && options.dry_run => {
            log::info!("stopped; the next dry run starts from the beginning")
        }
        Err(error) if error.is::<Stopped>() => log::info!("stopped; `firehose-worker prune` continues from here"),
        Err(error) => return Err(error),
    }
    let report = &prune.state.report;
    log::info!("{}", report.line(&prune.sizes));
    Ok(match options.json {
        true => report.json(&prune.sizes),
        false => report.text(&prune.sizes),
    })
}

/// The time before which rows go. The earlier of two clocks decides: a wrong one must not delete new rows.
fn limit(job: &Job, age: Duration) -> anyhow::Result<Micros> {
    let rows = job.attempt(|client| transaction(client, |client| Params::new().query(client, sql::PRUNE_CLOCK)))?;
    let of_server: i64 = rows.first().map_or(Ok(i64::MAX), |row| row.get("micros"))?;
    let now = of_server.min(chrono::Utc::now().timestamp_micros());
    Ok(Micros(now - age.as_micros() as i64))
}

struct Prune<'a> {
    job: Job,
    options: &'a cli::Prune,
    context: Context,
    sizes: Sizes,
    /// As stored, or what a dry run has found so far.
    state: State,
    /// `None` in a dry run, which stores nothing.
    hold: Option<Hold>,
    dashboard: Dashboard,
    screen: Screen,
    age: Duration,
    started: Instant,
    /// The time that earlier processes have spent on the same prune.
    seconds_before: f64,
}

impl Prune<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        self.begin()?;
        let walked = self.walk_all();
        let flushed = self.flush_rest();
        walked?;
        flushed
    }

    /// Takes over the job, with the place and the limit of an unfinished prune.
    fn begin(&mut self) -> anyhow::Result<()> {
        let Some(hold) = &self.hold else { return Ok(()) };
        let new = self.state.text();
        let stored = self.job.attempt(|client| hold.take(client, &new))?;
        match State::read(&stored) {
            Some(stored) if stored.is_of(self.age) => {
                let (before, Place { step, uri, .. }) = (stored.limit_text(), &stored.place);
                log::info!("continuing an unfinished prune of rows from before {before}: {step} after {uri}");
                self.state = stored;
            }
            stored => {
                if stored.is_none() {
                    log::warn!("the unfinished prune was started by another version; prune starts from the beginning");
                    self.job
                        .attempt(|client| transaction(client, |client| hold.save(client, &new)))?;
                }
                // Keeps the counts of an earlier prune that Redis does not have yet.
                let (age, limit) = (self.age, self.context.limit);
                self.change(|state| state.restart(age, limit))?;
            }
        }
        self.seconds_before = self.state.report.seconds;
        self.context.limit = Micros(self.state.limit);
        Ok(())
    }

    fn walk_all(&mut self) -> anyhow::Result<()> {
        let place = self.state.place.clone();
        for step in STEPS.iter().skip_while(|step| step.name != place.step) {
            let after = match step.name == place.step {
                true => place.clone(),
                false => Place::first(step),
            };
            self.walk(step, after)?;
        }
        self.change(State::finish)
    }

    fn walk(&mut self, step: &'static Step, mut after: Place) -> anyhow::Result<()> {
        loop {
            if self.context.accounts.read_at.elapsed() >= REFRESH {
                self.context.accounts = Accounts::read(&self.job)?;
            }
            let began = Instant::now();
            let context = &self.context;
            let read = |client: &mut Client| transaction(client, |client| (step.read)(client, context, &after));
            let Some(slice) = self.job.attempt(read)? else {
                return Ok(());
            };
            self.delete(step, &slice, began)?;
            after = slice.last;
            self.screen.show(step, &after, &self.state, &self.sizes);
            self.dashboard_due()?;
        }
    }

    /// Deletes the rows of a slice that go, and stores its end. The slice was being read since `began`.
    fn delete(&mut self, step: &Step, slice: &Slice, mut began: Instant) -> anyhow::Result<()> {
        let mut chunks = slice.going.chunks(step.chunk).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let end = chunks.peek().is_none().then_some(slice);
            let mut has_more = true;
            while has_more {
                has_more = self.transaction(step, chunk, end)?;
                self.pause(began.elapsed())?;
                began = Instant::now();
            }
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Pauses after work that took so long. By default prune takes a third of one core at most, with PostgreSQL.
    fn pause(&self, took: Duration) -> anyhow::Result<()> {
        let pause = self.options.pause_ms.map(Duration::from_millis);
        self.job.stop.wait(pause.unwrap_or(2 * took));
        Ok(self.job.stop.check()?)
    }

    /// Deletes a chunk of a slice, or a part of it, together with the end of the slice if it is the last chunk. Returns
    /// whether something is left of the chunk.
    fn transaction(&mut self, step: &Step, chunk: &[String], end: Option<&Slice>) -> anyhow::Result<bool> {
        let (hold, context) = (&self.hold, &self.context);
        let seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let (state, has_more) = match hold {
            None => {
                let count = |client: &mut Client| transaction(client, |client| (step.count)(client, context, chunk));
                let pruned = self.job.attempt(count)?;
                let mut state = self.state.clone();
                state.add(step, &pruned, end);
                (state, false)
            }
            Some(hold) => self.job.attempt(|client| {
                yielding(client, |client| {
                    let mut state = State::read(&hold.load(client)?).ok_or(ApplyError::TakenOver)?;
                    let pruned = match chunk.is_empty() {
                        true => Pruned::default(),
                        false => (step.delete)(client, context, chunk)?,
                    };
                    state.add(step, &pruned, end.filter(|_| !pruned.has_more));
                    state.report.seconds = seconds;
                    hold.save(client, &state.text())?;
                    Ok((state, pruned.has_more))
                })
            })?,
        };
        self.state = state;
        self.state.report.seconds = seconds;
        Ok(has_more)
    }

    /// Changes the stored state.
    fn change(&mut self, change: impl Fn(&mut State)) -> anyhow::Result<()> {
        let Some(hold) = &self.hold else {
            change(&mut self.state);
            return Ok(());
        };
        self.state = self.job.attempt(|client| {
            transaction(client, |client| {
                let mut state = State::read(&hold.load(client)?).ok_or(ApplyError::TakenOver)?;
                change(&mut state);
                hold.save(client, &state.text())?;
                Ok(state)
            })
        })?;
        Ok(())
    }

    /// Sends counts to the dashboard if it is time.
    fn dashboard_due(&mut self) -> anyhow::Result<()> {
        match self.dashboard.is_due() {
            true => self.flush().map(drop),
            false => Ok(()),
        }
    }

    /// Sends the counts that the dashboard lacks. Returns the reason if Redis does not take them.
    fn flush(&mut self) -> anyhow::Result<Option<String>> {
        if self.state.sending.is_none() {
            if !self.state.has_counts() {
                return Ok(None);
            }
            let now = chrono::Utc::now().timestamp_millis();
            self.change(|state| state.send(now))?;
        }
        let Some(sending) = self.state.sending.clone() else {
            return Ok(None);
        };
        if let Err(reason) = self.dashboard.add(&sending) {
            return Ok(Some(reason));
        }
        self.change(State::sent)?;
        Ok(None)
    }

    /// Sends the last counts, and ends the job unless it is unfinished or Redis does not take them.
    fn flush_rest(&mut self) -> anyhow::Result<()> {
        if self.hold.is_none() {
            return Ok(());
        }
        // Once for what was on its way, and once for what came after it.
        for _ in 0..2 {
            if let Some(reason) = self.flush()? {
                log::error!(
                    "the last counts could not be flushed to db:record_counts of redis ({reason}); they are stored, and \
                     the next prune sends them first"
                );
                return Ok(());
            }
        }
        match &self.hold {
            Some(hold) if self.state.is_finished() => self.job.attempt(|client| hold.end(client)),
            _ => Ok(()),
        }
    }
}
