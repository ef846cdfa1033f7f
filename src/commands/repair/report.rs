//! What a repair has found: how many were wrong, and by how much.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counters::{Miscount, NAMES};
use super::{Slice, Step, Wrong};
use crate::logging::shown::{self, one_line};

/// Examples of each kind.
const N_EXAMPLES: usize = 5;

/// Also what is stored with the progress, so that a repair that was interrupted reports all of it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub dry_run: bool,
    pub finished: bool,
    pub seconds: f64,
    pub list_items: Rows,
    /// Records that wait for the row of a pair.
    pub remembered: Rows,
    pub handles: Rows,
    pub pictures: Rows,
    pub dates: Rows,
    pub embeds: Rows,
    pub quotes: Quotes,
    pub counters: Counters,
    pub viewer_states: ViewerStates,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    looked_at: u64,
    wrong: u64,
    pub mended: u64,
    examples: Vec<String>,
}

impl Rows {
    fn found(&mut self, wrong: impl ExactSizeIterator<Item = String>) {
        self.wrong += wrong.len() as u64;
        keep_some(&mut self.examples, wrong);
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quotes {
    posts_looked_at: u64,
    missing: u64,
    pub mended: u64,
    examples: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    subjects_looked_at: u64,
    subjects_wrong: u64,
    /// Subjects that had no row of post_aggregations.
    rows_missing: u64,
    like_count: Counter,
    repost_count: Counter,
    reply_count: Counter,
    bookmark_count: Counter,
    quote_count: Counter,
    /// Subjects that were counted anew.
    pub mended: u64,
    examples: Vec<Example>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter {
    subjects_wrong: u64,
    /// The sum of the differences, each without its sign.
    difference: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Example {
    subject: String,
    /// In the order of the columns; null where there was no row.
    stored: Option<[i64; NAMES.len()]>,
    counted: [i64; NAMES.len()],
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewerStates {
    states_looked_at: u64,
    /// States that name what is not there.
    stale: u64,
    rows_looked_at: u64,
    /// Pairs of a like, repost or bookmark that no state names.
    missing: u64,
    pub mended: u64,
    examples: Vec<String>,
}

impl Report {
    pub fn new(dry_run: bool) -> Report {
        Report {
            dry_run,
            ..Report::default()
        }
    }

    /// Adds what a slice has shown.
    pub fn found(&mut self, step: Step, slice: &Slice) {
        let looked_at = match step {
            Step::ListItems => &mut self.list_items.looked_at,
            Step::Remembered => &mut self.remembered.looked_at,
            Step::Handles => &mut self.handles.looked_at,
            Step::Pictures => &mut self.pictures.looked_at,
            Step::Dates => &mut self.dates.looked_at,
            Step::Embeds => &mut self.embeds.looked_at,
            Step::Quotes => &mut self.quotes.posts_looked_at,
            Step::Counters => &mut self.counters.subjects_looked_at,
            Step::ViewerStates => &mut self.viewer_states.states_looked_at,
            Step::Likes | Step::Reposts | Step::Bookmarks => &mut self.viewer_states.rows_looked_at,
        };
        *looked_at += slice.looked_at;
        let states = &mut self.viewer_states;
        match &slice.wrong {
            Wrong::ListItems(uris) => self.list_items.found(uris.iter().cloned()),
            Wrong::Remembered(uris) => self.remembered.found(uris.iter().cloned()),
            Wrong::Handles(handles) => self.handles.found(handles.iter().cloned()),
            Wrong::Pictures(of) => {
                let shown = of
                    .pictures
                    .iter()
                    .map(|picture| format!("{}: {}", picture.key, picture.stored));
                self.pictures.found(shown);
            }
            Wrong::Dates(of) => self
                .dates
                .found(of.keys.iter().map(|key| format!("{}: {key}", of.table))),
            Wrong::Embeds(embeds) => self.embeds.found(embeds.iter().map(|embed| embed.post.clone())),
            Wrong::Quotes(posts) => {
                self.quotes.missing += posts.len() as u64;
                keep_some(&mut self.quotes.examples, posts.iter().cloned());
            }
            Wrong::Counters(miscounts) => miscounts.iter().for_each(|miscount| self.counters.found(miscount)),
            Wrong::Stale(pairs) => {
                states.stale += pairs.len() as u64;
                let shown = pairs.iter().map(|(post, viewer)| format!("stale: {viewer} on {post}"));
                keep_some(&mut states.examples, shown);
            }
            Wrong::Missing(pairs) => {
                states.missing += pairs.len() as u64;
                let shown = pairs
                    .iter()
                    .map(|(post, viewer)| format!("missing: {viewer} on {post}"));
                keep_some(&mut states.examples, shown);
            }
        }
    }

    /// How a step is getting on.
    pub fn line(&self, step: Step) -> String {
        let states = &self.viewer_states;
        let of = |rows: &Rows| (rows.looked_at, rows.wrong, rows.mended);
        let (looked_at, wrong, mended) = match step {
            Step::ListItems => of(&self.list_items),
            Step::Remembered => of(&self.remembered),
            Step::Handles => of(&self.handles),
            Step::Pictures => of(&self.pictures),
            Step::Dates => of(&self.dates),
            Step::Embeds => of(&self.embeds),
            Step::Quotes => (self.quotes.posts_looked_at, self.quotes.missing, self.quotes.mended),
            Step::Counters => (
                self.counters.subjects_looked_at,
                self.counters.subjects_wrong,
                self.counters.mended,
            ),
            Step::ViewerStates => (states.states_looked_at, states.stale, states.mended),
            Step::Likes | Step::Reposts | Step::Bookmarks => (states.rows_looked_at, states.missing, states.mended),
        };
        format!("{}: {looked_at} looked at, {wrong} wrong, {mended} mended", step.name())
    }

    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct WithUnknown<'r> {
            #[serde(flatten)]
            report: &'r Report,
            not_known: Vec<&'static str>,
        }
        let report = WithUnknown {
            report: self,
            not_known: self.not_known(),
        };
        let text = serde_json::to_string_pretty(&report).expect("names, texts and numbers are JSON");
        shown::json(&text) + "\n"
    }

    /// What nobody can know about the rows that were wrong, and was decided all the same.
    fn not_known(&self) -> Vec<&'static str> {
        let of = |rows: &Rows, unknown| (rows.wrong > 0).then_some(unknown);
        let notes = [
            of(
                &self.handles,
                "whose a handle is: the newest of its users keeps it, until an identity event gives it to another",
            ),
            of(
                &self.dates,
                "what such a record is dated: its row has the time at which it was written",
            ),
            of(
                &self.embeds,
                "who was not told of a quote: notifications are not made afterwards",
            ),
        ];
        notes.into_iter().flatten().collect()
    }
}

impl Counters {
    fn found(&mut self, miscount: &Miscount) {
        self.subjects_wrong += 1;
        self.rows_missing += u64::from(miscount.stored.is_none());
        let stored = miscount.stored.unwrap_or_default();
        let counters = [
            &mut self.like_count,
            &mut self.repost_count,
            &mut self.reply_count,
            &mut self.bookmark_count,
            &mut self.quote_count,
        ];
        for ((counter, stored), counted) in counters.into_iter().zip(stored).zip(miscount.counted) {
            let difference = stored.abs_diff(counted);
            counter.subjects_wrong += u64::from(difference > 0);
            counter.difference += difference;
        }
        let example = || Example {
            subject: miscount.subject.clone(),
            stored: miscount.stored,
            counted: miscount.counted,
        };
        keep_some(&mut self.examples, std::iter::once_with(example));
    }

    fn by_name(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        let counters = [
            &self.like_count,
            &self.repost_count,
            &self.reply_count,
            &self.bookmark_count,
            &self.quote_count,
        ];
        NAMES.into_iter().zip(counters)
    }
}

fn keep_some<T>(examples: &mut Vec<T>, more: impl Iterator<Item = T>) {
    let room = N_EXAMPLES.saturating_sub(examples.len());
    examples.extend(more.take(room));
}

/// The report for people.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let end = if self.finished { "finished" } else { "stopped" };
        let mended = if self.dry_run {
            "nothing was changed"
        } else {
            "what was wrong was mended"
        };
        writeln!(out, "{end} after {:.1} s; {mended}", self.seconds)?;
        let Report {
            quotes,
            counters,
            viewer_states: states,
            ..
        } = self;
        writeln!(
            out,
            "quotes: {} posts looked at, {} quotes missing, {} made",
            quotes.posts_looked_at, quotes.missing, quotes.mended
        )?;
        for post in &quotes.examples {
            writeln!(out, "  {}", one_line(post))?;
        }
        writeln!(
            out,
            "counters: {} subjects looked at, {} wrong, of which {} without a row, {} mended",
            counters.subjects_looked_at, counters.subjects_wrong, counters.rows_missing, counters.mended
        )?;
        for (name, counter) in counters.by_name() {
            let (subjects, difference) = (counter.subjects_wrong, counter.difference);
            writeln!(out, "  {name} of {subjects} subjects wrong, by {difference} in all")?;
        }
        for example in &counters.examples {
            writeln!(out, "  {}", one_line(&example.to_string()))?;
        }
        writeln!(
            out,
            "viewer states: {} looked at, {} stale; {} likes, reposts and bookmarks looked at, {} missing; {} mended",
            states.states_looked_at, states.stale, states.rows_looked_at, states.missing, states.mended
        )?;
        for example in &states.examples {
            writeln!(out, "  {}", one_line(example))?;
        }
        let rows = [
            (Step::ListItems, &self.list_items),
            (Step::Remembered, &self.remembered),
            (Step::Handles, &self.handles),
            (Step::Pictures, &self.pictures),
            (Step::Dates, &self.dates),
            (Step::Embeds, &self.embeds),
        ];
        for (step, rows) in rows {
            writeln!(out, "{}", self.line(step))?;
            for example in &rows.examples {
                writeln!(out, "  {}", one_line(example))?;
            }
        }
        for unknown in self.not_known() {
            writeln!(out, "not known: {unknown}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Example {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}:", self.subject)?;
        let stored = self.stored.unwrap_or_default();
        for ((name, stored), counted) in NAMES.into_iter().zip(stored).zip(self.counted) {
            if stored != counted {
                write!(out, " {name} {stored} for {counted} rows")?;
            }
        }
        match self.stored {
            Some(_) => Ok(()),
            None => write!(out, " no row of counters"),
        }
    }
}
