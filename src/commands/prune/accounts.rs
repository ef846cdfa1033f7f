//! The accounts whose posts stay: local ones, and those that they follow.

use std::collections::HashSet;
use std::time::Instant;

use crate::job::Job;
use crate::local;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::settings::config::Config;

pub struct Accounts {
    dids: HashSet<Box<str>>,
    pub read_at: Instant,
}

/// Local accounts whose follows are read at once.
const FOLLOWERS: usize = 20;

/// Enters the accounts that the AppView has come to serve since workers looked last.
pub fn register(job: &Job, config: &Config) -> anyhow::Result<()> {
    let given = config.local_dids.read().map_err(|fault| anyhow::anyhow!(fault))?;
    let registered = job.attempt(|client| local::register::register(client, &given))?;
    if !registered.unreadable.is_empty() {
        let tables = registered.unreadable.join(", ");
        anyhow::bail!(
            "the accounts in {tables} would lose their posts: the role may not read the table; GRANT SELECT ON {tables}"
        );
    }
    Ok(())
}

impl Accounts {
    pub fn read(job: &Job) -> anyhow::Result<Accounts> {
        let read_at = Instant::now();
        let local = local(job)?;
        let mut dids: HashSet<Box<str>> = HashSet::new();
        for followers in local.chunks(FOLLOWERS) {
            let rows = job.attempt(|client| {
                transaction(client, |client| {
                    Params::new()
                        .texts(followers.iter())
                        .query(client, sql::PRUNE_FOLLOWED_READ)
                })
            })?;
            for row in &rows {
                dids.insert(row.get::<_, &str>(0)?.into());
            }
        }
        dids.extend(local.into_iter().map(String::into_boxed_str));
        Ok(Accounts { dids, read_at })
    }

    pub fn is_empty(&self) -> bool {
        self.dids.is_empty()
    }

    pub fn has(&self, did: &str) -> bool {
        self.dids.contains(did)
    }
}

/// The local accounts.
fn local(job: &Job) -> anyhow::Result<Vec<String>> {
    let rows = job.attempt(|client| {
        transaction(client, |client| {
            Params::new().long(i64::MAX).query(client, sql::LOCAL_DIDS_READ)
        })
    })?;
    let dids = rows.iter().map(|row| row.get("did")).collect::<Result<_, ApplyError>>();
    dids.map_err(|error| anyhow::anyhow!(error.describe()))
}
