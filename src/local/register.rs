//! Finds the accounts that this AppView serves, and makes them local.
//!
//! Owns the list of the AppView's tables that name such accounts. Clients that reach the AppView through a PDS have no
//! session there, but the notifications tab of any client writes preferences.

use std::collections::BTreeSet;

use crate::group::members::gate::behind_gate;
use crate::logging::shown;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// A table and its column with DIDs.
type Source = (&'static str, &'static str);

/// The tables that name local accounts, each with the column that does. An AppView need not have all of them.
const SOURCES: [Source; 5] = [
    ("sessions", "user_did"),
    ("user_preferences", "user_did"),
    ("user_settings", "user_did"),
    ("push_subscriptions", "user_did"),
    ("authorized_admins", "did"),
];

/// The privileges that `register` needs. It does without those on the AppView's tables.
pub const PRIVILEGES: [(&str, &str); 4] = [
    ("firehose_worker.local_dids", "SELECT"),
    ("firehose_worker.local_dids", "INSERT"),
    ("firehose_worker.local_dids", "UPDATE"),
    ("firehose_worker.local_dids", "DELETE"),
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
    let Found {
        dids,
        entered,
        unreadable,
    } = transaction(client, |client| find(client, given))?;
    if entered > 0 {
        behind_gate(client, |client| enter(client, &dids))?;
    } else if !dids.is_empty() {
        transaction(client, |client| enter(client, &dids))?;
    }
    transaction(client, |client| Params::new().execute(client, sql::LOCAL_DIDS_LEAVE))?;
    Ok(Registered { entered, unreadable })
}

/// Accounts to add to the local ones, or to record as still named.
#[derive(Debug, Default)]
pub struct Found {
    pub dids: BTreeSet<String>,
    /// The number of those to add.
    entered: usize,
    /// Existing tables that the role may not read.
    pub unreadable: Vec<String>,
}

/// Finds in the caller's transaction what `register` would add.
///
/// # Errors
///
/// As for any statement.
pub fn find(client: &mut Client, given: &BTreeSet<String>) -> Result<Found, ApplyError> {
    let mut found = Found::default();
    let readable = sources(client, &mut found.unreadable)?;
    let params = Params::new().texts(given.iter());
    for row in params.query_filled(client, sql::LOCAL_DIDS_FIND, &find_in(&readable))? {
        found.dids.insert(row.get("did")?);
        found.entered += usize::from(row.get::<_, bool>("is_new")?);
    }
    Ok(found)
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

/// The existing sources that the role may read; the names of the others are added to `unreadable`.
fn sources(client: &mut Client, unreadable: &mut Vec<String>) -> Result<Vec<Source>, ApplyError> {
    let rows = Params::new()
        .texts(SOURCES.iter().map(|(table, _)| *table))
        .texts(SOURCES.iter().map(|(_, column)| *column))
        .query(client, sql::LOCAL_TABLES)?;
    let mut readable = Vec::new();
    for row in &rows {
        let name: &str = row.get("name")?;
        match row.get("is_readable")? {
            true => readable.extend(SOURCES.iter().filter(|(table, _)| *table == name)),
            false => unreadable.push(shown::harmless(name)),
        }
    }
    Ok(readable)
}

/// The text of the statement that searches these tables.
fn find_in(sources: &[Source]) -> String {
    let tables = sources
        .iter()
        .map(|(table, column)| format!("UNION SELECT {column}::text FROM {table}"));
    let tables: Vec<String> = tables.collect();
    sql::LOCAL_DIDS_FIND.text.replace("{sources}", &tables.join("\n    "))
}
