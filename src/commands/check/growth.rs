//! How fast the database grows, from the samples of the running workers, and how long its disk lasts.
//!
//! Owns the sentences, and how the free space is found: only where PostgreSQL runs on this machine and tells the role
//! where its files are.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use super::postgres::is_far;
use super::report::Report;
use crate::figures::text::{bytes, duration, grouped};
use crate::postgres::address::Database;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::report::growth::history::{FEWEST, Growth, History, INTERVAL, SHORTEST};

/// The time left at which to act: pruning needs days to give space back.
const WARN_BELOW_DAYS: f64 = 14.0;

/// How to let the database grow less.
pub const LESS: &str = "WRITE_NOTIFICATIONS=local and WRITE_VIEWER_STATES=local write less, and firehose-worker prune deletes \
                        old posts";

/// Reports both, and returns the database's size in bytes, and the growth if it has been measured.
///
/// # Errors
///
/// PostgreSQL cannot be asked.
pub fn check(
    client: &mut Client,
    database: &Database,
    role: &str,
    history: Option<&History>,
    report: &Report,
) -> Result<(f64, Option<Growth>), ApplyError> {
    report.about("growth");
    let rows = Params::new().query(client, sql::CHECK_STORAGE)?;
    let Some(storage) = rows.first() else {
        return Ok((0.0, None));
    };
    let growth = history.and_then(History::growth);
    let number = storage.get::<_, i64>("bytes")? as f64;
    let size = bytes(number);
    report.ok(match growth {
        None => format!(
            "the database has {size}; how fast it grows is not measured yet: a worker takes a sample at its start and \
             once an hour"
        ),
        Some(growth) if !growth.is_enough() => format!(
            "the database has {size}; how fast it grows is not measured yet: the samples span {} and {} events, of at \
             least {} and {}",
            duration(growth.time().as_secs()),
            grouped(growth.events()),
            duration(SHORTEST.as_secs()),
            grouped(FEWEST)
        ),
        Some(growth) => format!("the database has {size}; {}", rate(&growth)),
    });
    let growth = growth.filter(Growth::is_enough);
    check_disk(storage, database, role, growth.as_ref(), report)?;
    Ok((number, growth))
}

fn rate(growth: &Growth) -> String {
    let over = format!(
        "over {} with {} events{}",
        duration(growth.time().as_secs()),
        grouped(growth.events()),
        age(growth)
    );
    match growth.bytes() {
        ..=0 => format!("it has not grown {over}"),
        _ => format!(
            "it grows by {} per million events, {} a day: measured {over}",
            bytes(growth.per_million_events()),
            bytes(growth.per_day())
        ),
    }
}

/// How old the newest sample is, if no worker has taken another one since.
fn age(growth: &Growth) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(growth.to.at_ms / 1000);
    match seconds > 2 * INTERVAL.as_secs() {
        true => format!(", until {} ago", duration(seconds)),
        false => String::new(),
    }
}

fn check_disk(
    storage: &Row,
    database: &Database,
    role: &str,
    growth: Option<&Growth>,
    report: &Report,
) -> Result<(), ApplyError> {
    report.about("disk");
    if database.servers.first().is_some_and(is_far) || !storage.get::<_, bool>("is_local")? {
        report.ok("unknown: PostgreSQL is on another machine, or in a container");
        return Ok(());
    }
    let Some(directory) = storage.get::<_, Option<&str>>("directory")? else {
        report.hint(
            format!("unknown: PostgreSQL does not tell the role {role} where its files are"),
            format!("GRANT pg_read_all_settings TO {role}"),
        );
        return Ok(());
    };
    let Ok(disk) = statvfs(directory) else {
        report.ok(format!(
            "unknown: this user does not see {directory}, where PostgreSQL has its files"
        ));
        return Ok(());
    };
    let free = disk.blocks_available() as f64 * disk.fragment_size() as f64;
    let found = format!("{} are free for {directory}", bytes(free));
    match growth.map(Growth::per_day).filter(|growth| *growth > 0.0) {
        None => report.ok(found),
        Some(growth) => report_days(free / growth, found, report),
    }
    Ok(())
}

fn report_days(days: f64, found: String, report: &Report) {
    let found = format!(
        "{found}, which lasts {} at this rate",
        duration((days * 86_400.0) as u64)
    );
    match days < WARN_BELOW_DAYS {
        true => report.warn(found, format!("before it is full: {LESS}")),
        false => report.ok(found),
    }
}
