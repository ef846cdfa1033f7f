//! The command `repair`: makes rows right that other workers, or older versions of this one, have left wrong.
//!
//! Owns the walk: table after table, each in slices by key, that a stop, a lost server or a kill may interrupt. A slice
//! is read without locks; only rows that it shows wrong are locked, and made right from the rows as they then are. So
//! workers may run beside it.
//!
//! Invariant: what is mended is set from rows that are there, under the lock that workers take to change it; never from
//! what the slice has read.

mod counters;
mod dates;
mod embeds;
mod handles;
mod list_items;
mod pictures;
mod progress;
mod quotes;
mod report;
mod rights;
mod viewers;

use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;
use serde::{Deserialize, Serialize};

use crate::postgres::db::{self, Db};
use crate::postgres::fault::{ApplyError, Fault};
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, handle_signals};
use crate::settings::cli;
use crate::settings::config::Config;
use progress::{Hold, Place};
use report::Report;

/// What is walked over, in this order: quotes are counted, so they come before the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Quotes,
    Counters,
    ViewerStates,
    Likes,
    Reposts,
    Bookmarks,
    ListItems,
    Remembered,
    Handles,
    Pictures,
    Dates,
    Embeds,
}

impl Step {
    const ALL: [Step; 12] = [
        Step::Quotes,
        Step::Counters,
        Step::ViewerStates,
        Step::Likes,
        Step::Reposts,
        Step::Bookmarks,
        Step::ListItems,
        Step::Remembered,
        Step::Handles,
        Step::Pictures,
        Step::Dates,
        Step::Embeds,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::ListItems => "list items",
            Step::Remembered => "remembered records",
            Step::Handles => "handles",
            Step::Pictures => "pictures",
            Step::Dates => "dates",
            Step::Embeds => "embeds",
            Step::Quotes => "quotes",
            Step::Counters => "counters",
            Step::ViewerStates => "viewer states",
            Step::Likes => "likes in viewer states",
            Step::Reposts => "reposts in viewer states",
            Step::Bookmarks => "bookmarks in viewer states",
        }
    }

    /// The key that is before all others.
    fn first(self) -> Key {
        let n_columns = match self {
            Step::ViewerStates | Step::Dates | Step::Pictures => 2,
            _ => 1,
        };
        vec![String::new(); n_columns]
    }

    /// Whether the step only adds viewer states, which may be switched off.
    fn needs_viewers_written(self) -> bool {
        matches!(self, Step::Likes | Step::Reposts | Step::Bookmarks)
    }
}

/// The columns of a row's key in the order of the walk, which is the database's.
pub type Key = Vec<String>;

/// What a slice has shown.
pub struct Slice {
    /// Where the next begins.
    pub last: Key,
    pub looked_at: u64,
    pub wrong: Wrong,
}

/// What is wrong in a slice, sorted as workers sort their locks.
pub enum Wrong {
    /// Items of somebody else's list.
    ListItems(Vec<String>),
    /// Records that wait for a pair's row.
    Remembered(Vec<String>),
    Handles(Vec<String>),
    Pictures(pictures::Pictures),
    Dates(dates::Ancient),
    Embeds(Vec<embeds::Embed>),
    /// Posts without their quote.
    Quotes(Vec<String>),
    Counters(Vec<counters::Miscount>),
    /// Viewer states that name what is not there.
    Stale(Vec<viewers::Pair>),
    /// Likes, reposts or bookmarks that no viewer state names.
    Missing(Vec<viewers::Pair>),
}

/// Why the walk ends early.
enum End {
    Stopped,
    Failed(anyhow::Error),
}

/// Repairs until the end or until a stop is requested; returns the report for people or, if that was asked for, as
/// JSON.
///
/// # Errors
///
/// Tables or rights are missing, a statement can never succeed, or another process has taken the repair over.
pub fn run(config: Config, options: &cli::Repair) -> anyhow::Result<String> {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let stop = Stop::default();
    handle_signals(&stop)?;
    let mut repair = Repair {
        db: Db::new(config.postgres, 1, &stop),
        stop,
        options,
        writes_viewers: config.switches.viewer_states,
        hold: (!options.dry_run).then(Hold::new),
        report: Report::new(options.dry_run),
        started: Instant::now(),
        seconds_before: 0.0,
        said: Instant::now(),
    };
    match repair.run() {
        Ok(()) => repair.report.finished = true,
        Err(End::Stopped) if options.dry_run => log::info!("stopped; a dry run begins anew when it is started again"),
        Err(End::Stopped) => log::info!("stopped; `firehose-worker repair` goes on from here"),
        Err(End::Failed(error)) => return Err(error),
    }
    Ok(if options.json {
        repair.report.json()
    } else {
        repair.report.to_string()
    })
}

struct Repair<'a> {
    db: Db,
    stop: Stop,
    options: &'a cli::Repair,
    writes_viewers: bool,
    /// None in a dry run, which stores nothing.
    hold: Option<Hold>,
    report: Report,
    started: Instant,
    /// What earlier processes have spent on the same repair.
    seconds_before: f64,
    /// When the log was last told how far the walk is.
    said: Instant,
}

/// Between two lines about how far the walk is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Rows that share a transaction, where a step has no number of its own.
const CHUNK: usize = 500;

/// Looks at a database that is not ready, before the repair fails: a worker may be making its own tables just then.
const READY_TRIES: u32 = 5;

/// Tries after which a line is written: who waits for a lock in vain usually gets it the next time.
const QUIET_TRIES: u32 = 5;

impl Repair<'_> {
    fn run(&mut self) -> Result<(), End> {
        self.check_ready()?;
        let mut place = self.begin()?;
        let steps = Step::ALL.into_iter().skip_while(|step| *step != place.step);
        let writes_viewers = self.writes_viewers;
        // A dry run needs no tables of the worker's own.
        let has_own_tables = !self.options.dry_run;
        let steps = steps
            .filter(|step| writes_viewers || !step.needs_viewers_written())
            .filter(|step| has_own_tables || *step != Step::Remembered);
        for step in steps {
            let after = if step == place.step {
                std::mem::take(&mut place.after)
            } else {
                step.first()
            };
            self.walk(step, after)?;
        }
        self.report.seconds = self.seconds();
        match &self.hold {
            Some(hold) => self.attempt(|client| hold.end(client)),
            None => Ok(()),
        }
    }

    /// Fails where tables or rights are missing, before that is found out after hours.
    fn check_ready(&self) -> Result<(), End> {
        let is_dry_run = self.options.dry_run;
        let mut backoff = Backoff::default();
        let mut tries = 0;
        // A dry run needs no tables of the worker's own, and makes none.
        while !is_dry_run && let Some(missing) = self.attempt(db::missing)? {
            tries += 1;
            if tries == READY_TRIES {
                return Err(End::Failed(anyhow::anyhow!(missing)));
            }
            if backoff.wait(&self.stop) {
                return Err(End::Stopped);
            }
        }
        match self.attempt(|client| rights::lacking(client, is_dry_run))? {
            Some(lacking) => Err(End::Failed(anyhow::anyhow!(lacking))),
            None => Ok(()),
        }
    }

    /// Where to begin: where an unfinished repair has come to, or at the first key.
    fn begin(&mut self) -> Result<Place, End> {
        let Some(hold) = &self.hold else {
            return Ok(Place::first());
        };
        let (place, report) = self.attempt(|client| hold.take(client))?;
        if place != Place::first() {
            log::info!(
                "going on with an unfinished repair: {} after {}",
                place.step.name(),
                place.after.join(" ")
            );
        }
        self.seconds_before = report.seconds;
        self.report = report;
        Ok(place)
    }

    fn walk(&mut self, step: Step, mut after: Key) -> Result<(), End> {
        while let Some(last) = self.slice(step, &after)? {
            after = last;
            self.report.seconds = self.seconds();
            self.save(step, &after)?;
            if self.said.elapsed() >= SAY_EVERY {
                self.said = Instant::now();
                log::info!("{}, at {}", self.report.line(step), after.join(" "));
            }
            if self.stop.is_requested() || self.stop.wait(Duration::from_millis(self.options.pause_ms)) {
                return Err(End::Stopped);
            }
        }
        log::info!("{}, done", self.report.line(step));
        Ok(())
    }

    /// Looks at the next slice and mends what is wrong in it; `None` where there is nothing more.
    fn slice(&mut self, step: Step, after: &Key) -> Result<Option<Key>, End> {
        let length = self.options.slice;
        let read = self.attempt(|client| transaction(client, |client| read(client, step, after, length)))?;
        let Some(slice) = read else {
            return Ok(None);
        };
        self.report.found(step, &slice);
        if !self.options.dry_run {
            self.mend(&slice.wrong)?;
        }
        Ok(Some(slice.last))
    }

    fn mend(&mut self, wrong: &Wrong) -> Result<(), End> {
        match wrong {
            Wrong::ListItems(uris) => self.report.list_items.mended += self.mend_all(uris, list_items::mend)?,
            Wrong::Remembered(uris) => {
                self.report.remembered.mended += self.mend_all(uris, list_items::mend_remembered)?
            }
            Wrong::Handles(all) => self.report.handles.mended += self.mend_all(all, handles::mend)?,
            Wrong::Pictures(of) => {
                let mend = |client: &mut Client, some: &[_]| pictures::mend(client, &of.table, some);
                self.report.pictures.mended += self.mend_all(&of.pictures, mend)?;
            }
            Wrong::Dates(of) => {
                let mend = |client: &mut Client, some: &[_]| dates::mend(client, &of.table, some);
                self.report.dates.mended += self.mend_all(&of.keys, mend)?;
            }
            Wrong::Embeds(all) => self.report.embeds.mended += self.mend_all(all, embeds::mend)?,
            Wrong::Quotes(posts) => self.report.quotes.mended += self.mend_all(posts, quotes::mend)?,
            Wrong::Counters(miscounts) => {
                for miscounts in counters::chunks(miscounts) {
                    self.report.counters.mended += self.attempt(|client| counters::mend(client, miscounts))?;
                }
            }
            Wrong::Stale(pairs) | Wrong::Missing(pairs) => {
                let is_made = matches!(wrong, Wrong::Missing(_));
                for pairs in pairs.chunks(viewers::CHUNK) {
                    if is_made {
                        self.attempt(|client| viewers::make(client, pairs))?;
                    }
                    self.report.viewer_states.mended += self.attempt(|client| viewers::mend(client, pairs))?;
                }
            }
        }
        Ok(())
    }

    /// Mends in transactions that are short; answers how many that were.
    fn mend_all<T>(
        &self,
        wrong: &[T],
        mut mend: impl FnMut(&mut Client, &[T]) -> Result<u64, ApplyError>,
    ) -> Result<u64, End> {
        let mut mended = 0;
        for wrong in wrong.chunks(CHUNK) {
            mended += self.attempt(|client| mend(client, wrong))?;
        }
        Ok(mended)
    }

    fn save(&self, step: Step, after: &Key) -> Result<(), End> {
        let Some(hold) = &self.hold else {
            return Ok(());
        };
        let place = Place {
            step,
            after: after.clone(),
        };
        if self.attempt(|client| hold.save(client, &place, &self.report))? {
            return Ok(());
        }
        Err(End::Failed(anyhow::anyhow!(
            "another process has taken the repair over and goes on with it"
        )))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Tries until it works; for as long as it takes where trying can help.
    fn attempt<T>(&self, mut work: impl FnMut(&mut Client) -> Result<T, ApplyError>) -> Result<T, End> {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            let error = match self.db.with(&mut work) {
                Ok(value) => {
                    self.db.served();
                    return Ok(value);
                }
                Err(error) => error,
            };
            if error.sqlstate() == Some(&SqlState::QUERY_CANCELED) {
                return Err(End::Failed(anyhow::anyhow!(
                    "{}; start it again with a smaller --slice, it goes on from here",
                    error.describe()
                )));
            }
            if error.fault() != Fault::Transient {
                return Err(End::Failed(anyhow::anyhow!(error.describe())));
            }
            tries += 1;
            // A server that is away is said once, by the pool.
            if tries == QUIET_TRIES && error.sqlstate().is_some() {
                log::warn!("{}; trying until it passes", error.describe());
            }
            if backoff.wait(&self.stop) {
                return Err(End::Stopped);
            }
        }
    }
}

fn read(client: &mut Client, step: Step, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    match step {
        Step::ListItems => list_items::read(client, after, length),
        Step::Remembered => list_items::read_remembered(client, after, length),
        Step::Handles => handles::read(client, after, length),
        Step::Pictures => pictures::read(client, after, length),
        Step::Dates => dates::read(client, after, length),
        Step::Embeds => embeds::read(client, after, length),
        Step::Quotes => quotes::read(client, after, length),
        Step::Counters => counters::read(client, after, length),
        Step::ViewerStates => viewers::read_states(client, after, length),
        Step::Likes => viewers::read_rows(client, sql::REPAIR_LIKES_FIND, after, length),
        Step::Reposts => viewers::read_rows(client, sql::REPAIR_REPOSTS_FIND, after, length),
        Step::Bookmarks => viewers::read_rows(client, sql::REPAIR_BOOKMARKS_FIND, after, length),
    }
}

/// A slice from the rows of a statement that finds what is wrong in one; none where there is nothing more to look at.
fn sliced<T>(
    rows: &[Row],
    last: &str,
    read: impl Fn(&Row) -> Result<Option<T>, ApplyError>,
    wrong: impl FnOnce(Vec<T>) -> Wrong,
) -> Result<Option<Slice>, ApplyError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let Some(last) = first.get(last)? else {
        return Ok(None);
    };
    let found: Vec<Option<T>> = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Some(Slice {
        last: vec![last],
        looked_at: first.get::<_, i64>("n")? as u64,
        wrong: wrong(found.into_iter().flatten().collect()),
    }))
}

/// A slice of one of several tables, whose name is the first column of the key.
fn in_tables(
    tables: &[&str],
    after: &Key,
    mut read: impl FnMut(&str, &str) -> Result<Option<Slice>, ApplyError>,
) -> Result<Option<Slice>, ApplyError> {
    let begun = tables.iter().position(|table| *table == after[0]);
    let mut after = begun.map_or("", |_| after[1].as_str());
    for table in &tables[begun.unwrap_or(0)..] {
        if let Some(mut slice) = read(table, after)? {
            slice.last.insert(0, (*table).to_owned());
            return Ok(Some(slice));
        }
        after = "";
    }
    Ok(None)
}
