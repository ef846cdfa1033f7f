//! The command `repair`: corrects rows that other workers, or older versions of this one, left wrong.
//!
//! Owns the walk through the tables in slices by key. A stop, a lost server or a kill may interrupt it. A slice is read
//! without locks. Only rows that it shows to be wrong are locked, and corrected from the state that they then have, so
//! workers may run at the same time.
//!
//! Invariant: values are corrected from existing rows, under the lock that workers take to change them, never from what
//! the slice has read.

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

use crate::job::{Hold, Job, yielding as repairing};
use crate::postgres::client::Client;
use crate::postgres::db::Db;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql::Statement;
use crate::postgres::transaction::transaction;
use crate::runtime::shutdown::{Stop, Stopped, handle_signals};
use crate::settings::cli;
use crate::settings::config::{Accounts, Config};
use progress::Place;
use report::Report;

/// A kind of row that is repaired.
pub struct Step {
    /// Its name in the report, the log and the stored progress.
    pub name: &'static str,
    /// The number of columns in the key by which the step walks.
    key_columns: usize,
    /// Reads the slice of that many rows after a key. `None` if no rows are left.
    read: fn(&mut Client, &Key, u32) -> Result<Option<Slice>, ApplyError>,
    needs: Needs,
    /// What the stored rows cannot show, although the repair of wrong rows had to decide it.
    pub not_known: Option<&'static str>,
}

/// What a step requires.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// `WRITE_VIEWER_STATES`: the step only adds viewer states.
    ViewerStates,
    /// The worker's own tables, which a dry run does without.
    OwnTables,
}

/// In the order of the walk: quotes are counted, so they come before the counters.
pub static STEPS: [Step; 12] = [
    quotes::STEP,
    counters::STEP,
    viewers::STALE,
    viewers::LIKES,
    viewers::REPOSTS,
    viewers::BOOKMARKS,
    list_items::STEP,
    list_items::REMEMBERED,
    handles::STEP,
    pictures::STEP,
    dates::STEP,
    embeds::STEP,
];

/// The values that most steps share.
const USUAL: Step = Step {
    name: "",
    key_columns: 1,
    read: |_, _, _| Ok(None),
    needs: Needs::Nothing,
    not_known: None,
};

/// The columns of a row's key in the order of the walk, which is the database's.
pub type Key = Vec<String>;

/// What a slice contained.
pub struct Slice {
    /// Where the next begins.
    pub last: Key,
    pub examined: u64,
    pub wrong: u64,
    pub examples: Vec<String>,
    /// How the step's own counters differ from the rows.
    pub differences: counters::Differences,
    fixes: Vec<Fix>,
}

/// A short transaction that repairs rows; returns how many were wrong until then.
type Fix = Box<dyn Fn(&mut Client) -> Result<u64, ApplyError>>;

/// Repairs until the end or until a stop is requested; returns the report for people or, if that was asked for, as
/// JSON.
///
/// # Errors
///
/// Fails if tables or privileges are missing, if a statement can never succeed, or if another process has taken over
/// the repair.
pub fn run(config: Config, options: &cli::Repair) -> anyhow::Result<String> {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let stop = Stop::default();
    handle_signals(&stop, None)?;
    let mut repair = Repair {
        job: Job {
            db: Db::new(config.postgres, 1, &stop),
            stop,
            name: JOB,
            if_slow: "start it again with a smaller --slice, it continues from here",
        },
        options,
        writes_viewers: config.switches.viewer_states == Accounts::All,
        hold: (!options.dry_run).then(|| Hold::new(JOB)),
        report: Report::new(options.dry_run),
        started: Instant::now(),
        seconds_before: 0.0,
        said: Instant::now(),
    };
    match repair.run() {
        Ok(()) => repair.report.finished = true,
        Err(error) if error.is::<Stopped>() && options.dry_run => {
            log::info!("stopped; the next dry run starts from the beginning")
        }
        Err(error) if error.is::<Stopped>() => log::info!("stopped; `firehose-worker repair` continues from here"),
        Err(error) => return Err(error),
    }
    Ok(if options.json {
        repair.report.json()
    } else {
        repair.report.to_string()
    })
}

/// The name of the job.
const JOB: &str = "repair";

struct Repair<'a> {
    job: Job,
    options: &'a cli::Repair,
    writes_viewers: bool,
    /// `None` in a dry run, which stores nothing.
    hold: Option<Hold>,
    report: Report,
    started: Instant,
    /// The time that earlier processes have spent on the same repair.
    seconds_before: f64,
    /// When the progress was last logged.
    said: Instant,
}

/// How often the progress is logged.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Rows per transaction, unless a step has its own limit.
const CHUNK: usize = 500;

impl Repair<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        let is_dry_run = self.options.dry_run;
        self.job.check_ready(!is_dry_run, &rights::needed(is_dry_run))?;
        let place = self.begin()?;
        let steps = STEPS.iter().skip_while(|step| step.name != place.step);
        let (writes_viewers, has_own_tables) = (self.writes_viewers, !self.options.dry_run);
        let steps = steps.filter(|step| match step.needs {
            Needs::Nothing => true,
            Needs::ViewerStates => writes_viewers,
            Needs::OwnTables => has_own_tables,
        });
        for step in steps {
            let after = match step.name == place.step {
                true => place.after.clone(),
                false => step.first(),
            };
            self.walk(step, after)?;
        }
        self.report.seconds = self.seconds();
        match &self.hold {
            Some(hold) => self.job.attempt(|client| hold.end(client)),
            None => Ok(()),
        }
    }

    /// The key at which to start: the end of an unfinished repair, or the first key.
    fn begin(&mut self) -> anyhow::Result<Place> {
        let Some(hold) = &self.hold else {
            return Ok(Place::first());
        };
        let new = progress::store(&Place::first(), &Report::new(false));
        let stored = self.job.attempt(|client| hold.take(client, &new))?;
        let (place, report) = progress::read(&stored).unwrap_or_else(|| {
            log::warn!("the unfinished repair was started by another version; repair starts from the beginning");
            (Place::first(), Report::new(false))
        });
        if place != Place::first() {
            log::info!(
                "continuing an unfinished repair: {} after {}",
                place.step,
                place.after.join(" ")
            );
        }
        self.seconds_before = report.seconds;
        self.report = report;
        Ok(place)
    }

    fn walk(&mut self, step: &Step, mut after: Key) -> anyhow::Result<()> {
        self.report.begin(step);
        while let Some(last) = self.slice(step, &after)? {
            after = last;
            self.report.seconds = self.seconds();
            self.save(step, &after)?;
            if self.said.elapsed() >= SAY_EVERY {
                self.said = Instant::now();
                log::info!("{}, at {}", self.report.line(step), after.join(" "));
            }
            self.job.stop.wait(Duration::from_millis(self.options.pause_ms));
            self.job.stop.check()?;
        }
        log::info!("{}, done", self.report.line(step));
        Ok(())
    }

    /// Reads the next slice and repairs the wrong rows in it; `None` if there are no more slices.
    fn slice(&mut self, step: &Step, after: &Key) -> anyhow::Result<Option<Key>> {
        let length = self.options.slice;
        let read = self
            .job
            .attempt(|client| transaction(client, |client| (step.read)(client, after, length)))?;
        let Some(slice) = read else {
            return Ok(None);
        };
        self.report.found(step, &slice);
        if !self.options.dry_run {
            for fix in &slice.fixes {
                let repaired = self.job.attempt(fix)?;
                self.report.repaired(step, repaired);
            }
        }
        Ok(Some(slice.last))
    }

    fn save(&self, step: &Step, after: &Key) -> anyhow::Result<()> {
        let Some(hold) = &self.hold else {
            return Ok(());
        };
        let place = Place {
            step: step.name.to_owned(),
            after: after.clone(),
        };
        let state = progress::store(&place, &self.report);
        self.job
            .attempt(|client| transaction(client, |client| hold.save(client, &state)))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }
}

impl Step {
    /// A key that sorts before all others.
    fn first(&self) -> Key {
        vec![String::new(); self.key_columns]
    }
}

/// Runs a statement that reads the slice of `length` rows after a key.
fn find<K: AsRef<str>>(
    client: &mut Client,
    statement: Statement,
    after: &[K],
    length: u32,
) -> Result<Vec<Row>, ApplyError> {
    let params = after
        .iter()
        .fold(Params::new(), |params, column| params.text(column.as_ref()));
    params.long(length.into()).query(client, statement)
}

impl Slice {
    /// Makes a slice from the rows of a statement that finds wrong rows. Each row repeats the last key and the length
    /// of the slice. `None` if no rows are left. `fix` repairs at most `chunk` of the values that `read` takes from the
    /// rows.
    fn of<T: Ord + 'static>(
        rows: &[Row],
        last: &[&str],
        read: impl Fn(&Row) -> Result<Option<T>, ApplyError>,
        describe: impl Fn(&T) -> String,
        chunk: usize,
        fix: impl Fn(&mut Client, &[T]) -> Result<u64, ApplyError> + Clone + 'static,
    ) -> Result<Option<Slice>, ApplyError> {
        let Some(first) = rows.first() else { return Ok(None) };
        let last: Vec<Option<String>> = last.iter().map(|column| first.get(*column)).collect::<Result<_, _>>()?;
        let Some(last) = last.into_iter().collect() else {
            return Ok(None);
        };
        let wrong: Vec<Option<T>> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let mut wrong: Vec<T> = wrong.into_iter().flatten().collect();
        // The order in which workers lock rows.
        wrong.sort_unstable();
        Ok(Some(Slice {
            last,
            examined: first.get::<_, i64>("n")? as u64,
            wrong: wrong.len() as u64,
            examples: wrong.iter().take(report::N_EXAMPLES).map(describe).collect(),
            differences: counters::Differences::default(),
            fixes: fixes(wrong, chunk, fix),
        }))
    }
}

/// Splits a repair into short transactions.
fn fixes<T: 'static>(
    mut wrong: Vec<T>,
    chunk: usize,
    fix: impl Fn(&mut Client, &[T]) -> Result<u64, ApplyError> + Clone + 'static,
) -> Vec<Fix> {
    let mut fixes: Vec<Fix> = Vec::new();
    while !wrong.is_empty() {
        let rest = wrong.split_off(chunk.min(wrong.len()));
        let (part, fix) = (std::mem::replace(&mut wrong, rest), fix.clone());
        fixes.push(Box::new(move |client| fix(client, &part)));
    }
    fixes
}

/// A slice of one of several tables, whose name is the first column of the key.
fn in_tables<T>(
    tables: &'static [T],
    name: impl Fn(&'static T) -> &'static str,
    after: &Key,
    mut read: impl FnMut(&'static T, &str) -> Result<Option<Slice>, ApplyError>,
) -> Result<Option<Slice>, ApplyError> {
    let begun = tables.iter().position(|table| name(table) == after[0]);
    let mut after = begun.map_or("", |_| after[1].as_str());
    for table in &tables[begun.unwrap_or(0)..] {
        if let Some(mut slice) = read(table, after)? {
            slice.last.insert(0, name(table).to_owned());
            return Ok(Some(slice));
        }
        after = "";
    }
    Ok(None)
}
