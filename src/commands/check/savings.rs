//! What writing side effects for local accounts only, and pruning, would save in this database.
//!
//! Owns the estimates. They need no table to be read: sizes come from the file system, and shares of rows from some
//! random pages.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use crate::commands::prune::DELETED;
use crate::figures::text::bytes;
use crate::local::{LocalDids, register};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::report::growth::history::Growth;
use crate::settings::config::{Accounts, Config};

/// The tables that can be written for local accounts only: setting, table, and the column with the account.
const SIDE_EFFECTS: [(&str, &str, &str); 2] = [
    ("WRITE_NOTIFICATIONS", "notifications", "recipient_did"),
    ("WRITE_VIEWER_STATES", "post_viewer_states", "viewer_did"),
];

/// Ages to tell of, in days.
const AGES: [u32; 3] = [7, 14, 30];

/// The size of the pages that a sample reads, in bytes.
const SAMPLED: f64 = 200.0 * 8192.0;

/// Fewer rows say little about a table's share of local accounts.
const FEWEST_ROWS: usize = 100;

/// A table's size in bytes.
#[derive(Clone, Copy)]
struct Size {
    all: f64,
    heap: f64,
}

type Sizes = BTreeMap<String, Size>;

/// Reports both estimates. `tables` are all that the worker writes, and `size` is that of the database.
///
/// # Errors
///
/// PostgreSQL cannot be asked.
pub fn check(
    client: &mut Client,
    tables: &[&str],
    size: f64,
    growth: Option<&Growth>,
    config: &Config,
    report: &Report,
) -> Result<(), ApplyError> {
    report.about("prune");
    let rows = Params::new().texts(tables.iter()).query(client, sql::CHECK_SIZES)?;
    let sizes: Sizes = rows.iter().map(read_size).collect::<Result<_, _>>()?;
    check_prune(&sizes, size, growth, report);
    report.about("local");
    check_local(client, &sizes, size, config, report)
}

fn read_size(row: &Row) -> Result<(String, Size), ApplyError> {
    let number = |name| -> Result<f64, ApplyError> { Ok(row.get::<_, i64>(name)? as f64) };
    let size = Size {
        all: number("bytes")?,
        heap: number("heap")?,
    };
    Ok((row.get("name")?, size))
}

/// Space that pruning frees is written again, so the database stops growing at about the size that it is told here.
fn check_prune(sizes: &Sizes, size: f64, growth: Option<&Growth>, report: &Report) {
    let goes: f64 = DELETED
        .iter()
        .filter_map(|table| sizes.get(*table))
        .map(|size| size.all)
        .sum();
    let share = percent(goes, size);
    let tables = format!("{} ({share} %) are in tables that it prunes", bytes(goes));
    let Some(per_day) = growth
        .map(|growth| growth.per_day() * goes / size)
        .filter(|growth| *growth > 0.0)
    else {
        return report.ok(format!(
            "{tables}; what it would save follows from the growth, once that is measured"
        ));
    };
    let left = |days: u32| {
        let left = (per_day * f64::from(days)).min(goes) + size - goes;
        format!("{} with --older-than {days}d", bytes(left))
    };
    report.ok(format!(
        "{tables}; of {}, about this much is newer or stays: {}",
        bytes(size),
        AGES.map(left).join(", ")
    ));
}

fn check_local(
    client: &mut Client,
    sizes: &Sizes,
    size: f64,
    config: &Config,
    report: &Report,
) -> Result<(), ApplyError> {
    if config.switches.use_local() && has_own_table(client)? {
        let unreadable = register::find(client, &BTreeSet::new())?.unreadable.join(", ");
        if !unreadable.is_empty() {
            report.warn(
                format!("the accounts in {unreadable} do not become local: the role may not read the table"),
                format!("GRANT SELECT ON {unreadable} to the role"),
            );
        }
    }
    let accounts = [config.switches.notifications, config.switches.viewer_states];
    let (mut parts, mut settings, mut saved) = (Vec::new(), Vec::new(), 0.0);
    let mut local = None;
    for ((setting, table, column), accounts) in SIDE_EFFECTS.into_iter().zip(accounts) {
        let Some(of_table) = sizes.get(table) else { continue };
        let part = format!("{table} {} ({} %)", bytes(of_table.all), percent(of_table.all, size));
        let judged = match accounts {
            Accounts::None => "not written any more".to_owned(),
            Accounts::Local => "written for local accounts only".to_owned(),
            Accounts::All => {
                let known = match local.take() {
                    Some(known) => known,
                    None => Known::read(client, config)?,
                };
                let foreign = foreign(client, table, column, *of_table, &known)?;
                local = Some(known);
                if let Some(foreign) = foreign {
                    saved += foreign * of_table.all;
                    settings.push(format!("{setting}=local"));
                }
                foreign.map_or("too few rows to judge".to_owned(), |foreign| {
                    format!("{} % not for local accounts", percent(foreign, 1.0))
                })
            }
        };
        parts.push(format!("{part}, {judged}"));
    }
    let found = parts.join("; ");
    match settings.is_empty() {
        false => report.hint(
            found,
            format!(
                "with {}, and the accounts that are local now, the database would grow by {} % less",
                settings.join(" "),
                percent(saved, size)
            ),
        ),
        true => report.ok(found),
    }
    Ok(())
}

fn has_own_table(client: &mut Client) -> Result<bool, ApplyError> {
    let missing = Params::new()
        .texts(["firehose_worker.local_dids"].iter())
        .query(client, sql::MISSING_TABLES)?;
    Ok(missing.is_empty())
}

/// The accounts that are or would be local.
struct Known {
    local: LocalDids,
    found: BTreeSet<String>,
}

impl Known {
    fn read(client: &mut Client, config: &Config) -> Result<Known, ApplyError> {
        let given = config.local_dids.read().unwrap_or_default();
        Ok(match has_own_table(client)? {
            true => Known {
                local: LocalDids::read(client)?,
                found: register::find(client, &given)?.dids,
            },
            false => Known {
                local: LocalDids::default(),
                found: given,
            },
        })
    }

    fn contains(&self, did: &str) -> bool {
        self.local.contains(did) || self.found.contains(did)
    }
}

/// The share of the rows that are not of local accounts; `None` if the sample has too few rows.
fn foreign(
    client: &mut Client,
    table: &str,
    column: &str,
    size: Size,
    known: &Known,
) -> Result<Option<f64>, ApplyError> {
    let share = (SAMPLED / size.heap.max(1.0) * 100.0).min(100.0);
    let text = sql::CHECK_SAMPLE
        .text
        .replace("{column}", column)
        .replace("{table}", table)
        .replace("{percent}", &format!("{share:.9}"));
    let rows = Params::new().query_filled(client, sql::CHECK_SAMPLE, &text)?;
    if rows.len() < FEWEST_ROWS {
        return Ok(None);
    }
    let mut foreign = 0;
    for row in &rows {
        foreign += usize::from(!known.contains(row.get("value")?));
    }
    Ok(Some(foreign as f64 / rows.len() as f64))
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.1}", part / whole.max(1.0) * 100.0)
}
