//! The counters of `post_aggregations` against the rows that they count, and posts without counters, which readers
//! miss.

use postgres::Client;

use super::{Key, Slice, Wrong};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The columns, in the order in which statements have them.
pub const NAMES: [&str; 5] = [
    "like_count",
    "repost_count",
    "reply_count",
    "bookmark_count",
    "quote_count",
];

/// A subject whose counters are wrong.
pub struct Miscount {
    pub subject: String,
    /// Rows, in the order of `NAMES`.
    pub counted: [i64; NAMES.len()],
    /// What the counters say; `None` where the subject has none.
    pub stored: Option<[i64; NAMES.len()]>,
}

/// Subjects that share a transaction at most.
const CHUNK: usize = 500;

/// Rows that are counted in a transaction, unless one subject has more: what a worker that writes to one of its
/// subjects waits for.
const CHUNK_ROWS: i64 = 50_000;

pub fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let bound = Params::new()
        .text(&after[0])
        .long(length.into())
        .query(client, sql::REPAIR_COUNTERS_BOUND)?;
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
    Ok(Some(Slice {
        last: vec![last],
        looked_at: rows.first().map_or(Ok(0), |row| row.get::<_, i64>("n"))? as u64,
        wrong: Wrong::Counters(miscounts),
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

/// Miscounts in parts that a transaction takes, each with little to count or one subject only.
pub fn chunks(miscounts: &[Miscount]) -> impl Iterator<Item = &[Miscount]> {
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

/// Counts subjects anew as workers do: adds nothing to their counters, which makes and locks them, and then sets them
/// from the rows. Answers how many subjects those are.
pub fn mend(client: &mut Client, miscounts: &[Miscount]) -> Result<u64, ApplyError> {
    let subjects = || miscounts.iter().map(|miscount| &miscount.subject);
    let none = || miscounts.iter().map(|_| 0);
    transaction(client, |client| {
        Params::new()
            .texts(subjects())
            .ints(none())
            .ints(none())
            .ints(none())
            .ints(none())
            .ints(none())
            .query(client, sql::COUNTERS_ADD)?;
        let all = || miscounts.iter().map(|_| true);
        Params::new()
            .texts(subjects())
            .bools(all())
            .bools(all())
            .bools(all())
            .bools(all())
            .bools(all())
            .execute(client, sql::COUNTERS_RECOUNT)?;
        Ok(miscounts.len() as u64)
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
