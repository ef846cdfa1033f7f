//! Finds the accounts that this AppView serves, and makes them local.
//!
//! Owns the list of the AppView's tables that name such accounts. Clients that reach the AppView through a PDS have no
//! session there, but the notifications tab of any client writes preferences.

use std::collections::BTreeSet;

use postgres::Client;

use crate::group::members::gate::behind_gate;
use crate::logging::shown;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The tables that name local accounts, each with the column that does. An AppView need not have all of them.
pub const SOURCES: [(&str, &str); 5] = [
    ("sessions", "user_did"),
    ("user_preferences", "user_did"),
    ("user_settings", "user_did"),
    ("push_subscriptions", "user_did"),
    ("authorized_admins", "did"),
];

/// What a search for local accounts has come to.
#[derive(Debug, Default)]
pub struct Registered {
    /// The number of accounts that have entered.
    pub entered: usize,
    /// Existing tables that the role may not read.
    pub unreadable: Vec<String>,
}

/// Adds the accounts that the AppView's tables or `given` name, and removes those that none has named for long.
///
/// # Errors
///
/// As for any statement; also if the workers' commits keep the gate open for too long. Accounts that were found before
/// an error have entered or enter with the next call.
pub fn register(client: &mut Client, given: &BTreeSet<String>) -> Result<Registered, ApplyError> {
    let (readable, unreadable) = sources(client)?;
    let find = find_in(&readable);
    let rows = transaction(client, |client| {
        let params = Params::new().texts(given.iter());
        params.query_filled(client, sql::LOCAL_DIDS_FIND, &find)
    })?;
    let did = |row: &Row| row.get::<_, String>("did");
    let is_new = |row: &Row| row.get::<_, bool>("is_new");
    let dids: BTreeSet<String> = rows.iter().map(did).collect::<Result<_, _>>()?;
    let entered = rows.iter().map(is_new).collect::<Result<Vec<_>, _>>()?;
    let entered = entered.into_iter().filter(|is_new| *is_new).count();
    if entered > 0 {
        behind_gate(client, |client| enter(client, &dids))?;
    } else if !dids.is_empty() {
        transaction(client, |client| enter(client, &dids))?;
    }
    transaction(client, |client| Params::new().execute(client, sql::LOCAL_DIDS_LEAVE))?;
    Ok(Registered { entered, unreadable })
}

/// Adds accounts that a caller names, whatever the AppView's tables say.
pub fn enter_these(client: &mut Client, dids: &BTreeSet<String>) -> Result<(), ApplyError> {
    behind_gate(client, |client| enter(client, dids))
}

fn enter(client: &mut Client, dids: &BTreeSet<String>) -> Result<(), ApplyError> {
    Params::new()
        .texts(dids.iter())
        .execute(client, sql::LOCAL_DIDS_ENTER)?;
    Ok(())
}

/// The existing sources that the role may read, and the names of those it may not.
fn sources(client: &mut Client) -> Result<(Vec<(&'static str, &'static str)>, Vec<String>), ApplyError> {
    let rows = Params::new()
        .texts(SOURCES.iter().map(|(table, _)| *table))
        .texts(SOURCES.iter().map(|(_, column)| *column))
        .query(client, sql::LOCAL_TABLES)?;
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for row in &rows {
        let name: &str = row.get("name")?;
        match row.get("is_readable")? {
            true => readable.extend(SOURCES.iter().filter(|(table, _)| *table == name)),
            false => unreadable.push(shown::harmless(name)),
        }
    }
    Ok((readable, unreadable))
}

/// The text of the statement that searches these tables.
fn find_in(sources: &[(&str, &str)]) -> String {
    let tables = sources
        .iter()
        .map(|(table, column)| format!("UNION SELECT {column}::text FROM {table}"));
    let tables: Vec<String> = tables.collect();
    sql::LOCAL_DIDS_FIND.text.replace("{sources}", &tables.join("\n    "))
}
