//! Corrects the counters of `post_aggregations` from the rows that they count, and adds them to posts that have none,
//! which readers do not show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fix, Key, Slice, Step, USUAL, find, report};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The counter columns, in the order of the statements' parameters.
pub const NAMES: [&str; 5] = [
    "like_count",
    "repost_count",
    "reply_count",
    "bookmark_count",
    "quote_count",
];

pub const STEP: Step = Step {
    name: "counters",
    read,
    ..USUAL
};

/// A subject whose counters are wrong.
struct Miscount {
    subject: String,
    /// The numbers of rows, in the order of `NAMES`.
    counted: [i64; NAMES.len()],
    /// The stored counters; `None` if the subject has none.
    stored: Option<[i64; NAMES.len()]>,
}

/// How far counters differ from the rows that they count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// The number of subjects without counters.
    pub subjects_without_row: u64,
    /// The wrong counters, by name.
    pub by_counter: BTreeMap<String, Difference>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub subjects: u64,
    /// The sum of the absolute differences.
    pub difference: u64,
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        *self == Differences::default()
    }

    pub fn add(&mut self, other: &Differences) {
        self.subjects_without_row += other.subjects_without_row;
        for (name, more) in &other.by_counter {
            let difference = self.by_counter.entry(name.clone()).or_default();
            difference.subjects += more.subjects;
            difference.difference += more.difference;
        }
    }
}

impl Miscount {
    /// The wrong counters, each with its stored value and the number of rows.
    fn wrong(&self) -> impl Iterator<Item = (&'static str, i64, i64)> {
        let stored = self.stored.unwrap_or_default();
        let counters = NAMES.into_iter().zip(stored).zip(self.counted);
        counters
            .map(|((name, stored), counted)| (name, stored, counted))
            .filter(|(_, stored, counted)| stored != counted)
    }

    fn differences(&self) -> Differences {
        let difference = |(name, stored, counted): (&str, i64, i64)| {
            let difference = Difference {
                subjects: 1,
                difference: stored.abs_diff(counted),
            };
            (name.to_owned(), difference)
        };
        Differences {
            subjects_without_row: u64::from(self.stored.is_none()),
            by_counter: self.wrong().map(difference).collect(),
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("{}:", self.subject);
        for (name, stored, counted) in self.wrong() {
            text += &format!(" {name} {stored} for {counted} rows");
        }
        match self.stored {
            Some(_) => text,
            None => text + " no row of counters",
        }
    }
}

/// The maximum number of subjects in a transaction.
const CHUNK: usize = 500;

/// The maximum number of rows counted in a transaction, unless a single subject has more. A worker that writes to one
/// of the subjects waits that long.
const CHUNK_ROWS: i64 = 50_000;

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let bound = find(client, sql::REPAIR_COUNTERS_BOUND, after, length)?;
    let Some(bound) = bound.first() else {
        return Ok(None);
    };
    let last: String = bound.get("last")?;
    let rows = Params::new()
        .text(&after[0])
        .text(&last)
        .query(client, sql::REPAIR_COUNTERS_FIND)?;
    let miscounts: Vec<Option<Miscount>> = rows.iter().map(miscount).collect::<Result<_, _>>()?;
    let mut miscounts: Vec<Miscount> = miscounts.into_iter().flatten().collect();
    miscounts.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
    let mut differences = Differences::default();
    miscounts
        .iter()
        .for_each(|miscount| differences.add(&miscount.differences()));
    Ok(Some(Slice {
        last: vec![last],
        examined: rows.first().map_or(Ok(0), |row| row.get::<_, i64>("n"))? as u64,
        wrong: miscounts.len() as u64,
        examples: miscounts
            .iter()
            .take(report::N_EXAMPLES)
            .map(Miscount::describe)
            .collect(),
        differences,
        fixes: chunks(&miscounts).map(fix_of).collect(),
    }))
}

fn miscount(row: &Row) -> Result<Option<Miscount>, ApplyError> {
    let Some(subject) = row.get("subject")? else {
        return Ok(None);
    };
    let counted: Vec<i64> = row.get("counted")?;
    let stored: Vec<Option<i64>> = row.get("stored")?;
    let stored: Option<Vec<i64>> = stored.into_iter().collect();
    Ok(Some(Miscount {
        subject,
        counted: std::array::from_fn(|counter| counted[counter]),
        stored: stored.map(|stored| std::array::from_fn(|counter| stored[counter])),
    }))
}

/// Splits miscounts into transactions, each within the two limits or with a single subject.
fn chunks(miscounts: &[Miscount]) -> impl Iterator<Item = &[Miscount]> {
    let mut rest = miscounts;
    std::iter::from_fn(move || {
        let mut n_rows = 0;
        let fits = rest.iter().take(CHUNK).take_while(|miscount| {
            n_rows += miscount.counted.iter().sum::<i64>();
            n_rows <= CHUNK_ROWS
        });
        let length = fits.count().max(1).min(rest.len());
        let (chunk, others) = rest.split_at(length);
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn fix_of(miscounts: &[Miscount]) -> Fix {
    let subjects: Vec<String> = miscounts.iter().map(|miscount| miscount.subject.clone()).collect();
    Box::new(move |client| fix(client, &subjects))
}

/// Recounts subjects with the workers' statements: adds zero to their counters, which creates and locks them, and then
/// sets them from the rows. Returns the number of subjects.
fn fix(client: &mut Client, subjects: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        let mut add = Params::new().texts(subjects.iter());
        let mut recount = Params::new().texts(subjects.iter());
        for _ in NAMES {
            add = add.ints(subjects.iter().map(|_| 0));
            recount = recount.bools(subjects.iter().map(|_| true));
        }
        add.query(client, sql::COUNTERS_ADD)?;
        recount.execute(client, sql::COUNTERS_RECOUNT)?;
        Ok(subjects.len() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_by_subjects_and_by_rows_and_leave_none_out() {
        let miscount = |likes| Miscount {
            subject: String::new(),
            counted: [likes, 0, 0, 0, 0],
            stored: None,
        };
        let lengths = |miscounts: &[Miscount]| chunks(miscounts).map(<[Miscount]>::len).collect::<Vec<_>>();
        let small: Vec<Miscount> = (0..CHUNK + 1).map(|_| miscount(1)).collect();
        assert_eq!(lengths(&small), [CHUNK, 1]);
        let large = [miscount(1), miscount(CHUNK_ROWS), miscount(CHUNK_ROWS * 9), miscount(2)];
        assert_eq!(lengths(&large), [1, 1, 1, 1]);
        assert_eq!(lengths(&[miscount(CHUNK_ROWS - 1), miscount(1), miscount(1)]), [2, 1]);
        assert!(lengths(&[]).is_empty());
    }
}
