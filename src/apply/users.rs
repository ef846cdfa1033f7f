//! Users rows: which must exist, opt-outs, handles and profiles.
//!
//! Owns `users` and the reading of opt-outs. Users are created in a short transaction of their own before the batch's
//! transaction, because other workers that insert the same user wait for it. Only a small batch, which is short itself,
//! creates them in its own. A users row without further rows is harmless.
//!
//! Invariant: a DID counts as known only after the transaction that created its row has committed, and only for
//! `ROW_AGE` from then on, because the AppView deletes users in bulk. Before a handle or a profile is written, the row
//! is locked, and created if it is missing, whether or not the DID is known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::handles::Handles;
use crate::fold::UserChange;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::rows::{Op, Table};

/// A cache of the users that the workers of a process have met; it saves reading them again.
#[derive(Clone, Default)]
pub struct KnownUsers(Arc<Mutex<Users>>);

struct Users {
    users: HashMap<u128, Known>,
    hashers: (RandomState, RandomState),
    began: Instant,
    /// How often a connection had been requested when the cache was last cleared for it.
    connections: u64,
}

#[derive(Clone, Copy, Default)]
struct Known {
    /// When the row was last known to exist.
    exists: Option<Seconds>,
    opt_out: Option<OptOut>,
}

#[derive(Clone, Copy)]
struct OptOut {
    is_forbidden: bool,
    read_at: Seconds,
}

/// Seconds since the process began. A quarter of the size of an `Instant`, which matters because there are many.
type Seconds = u32;

/// The moment in which a batch began: what it then reads is not older.
#[derive(Clone, Copy)]
pub struct Began {
    at: Seconds,
    connections: u64,
}

/// The maximum number of remembered users: nearly as many as fit into a table of 1 MiB. When the cache is full it is
/// cleared, and the next batch reads its users again.
const CAPACITY: usize = 28_000;

/// The maximum time in seconds until an opt-out that was set takes effect.
const OPT_OUT_AGE: Seconds = 60;

/// The maximum time in seconds for which a users row deleted by the AppView is still taken to exist. The first op on
/// the user after that creates the row again.
const ROW_AGE: Seconds = 50;

impl Default for Users {
    fn default() -> Self {
        Users {
            users: HashMap::new(),
            hashers: Default::default(),
            began: Instant::now(),
            connections: 0,
        }
    }
}

impl KnownUsers {
    pub fn began(&self) -> Began {
        let users = self.lock();
        Began {
            at: users.now(),
            connections: users.connections,
        }
    }

    /// Remembers users whose rows are committed and existed when the batch began.
    pub fn committed<'o>(&self, dids: impl Iterator<Item = &'o str>, began: Began) {
        let mut users = self.lock();
        // A connection made since then may lead to a standby that was promoted without this commit.
        if users.connections == began.connections {
            for did in dids {
                users.learn(did, |known| known.exists = Some(began.at));
            }
        }
    }

    /// Forgets all users if a connection was made since the last call: it may lead to a standby that was promoted
    /// without the last commits.
    pub fn connected(&self, connections: u64) {
        let mut users = self.lock();
        if users.connections < connections {
            users.connections = connections;
            users.users.clear();
        }
    }

    /// Forgets all users.
    pub fn clear(&self) {
        self.lock().users.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn now(&self) -> Seconds {
        self.began.elapsed().as_secs() as Seconds
    }

    /// Identifies a DID by 128 bits of two keyed hashes: collisions do not occur by chance and cannot be constructed.
    fn key(&self, did: &str) -> u128 {
        u128::from(self.hashers.0.hash_one(did)) << 64 | u128::from(self.hashers.1.hash_one(did))
    }

    fn exists(&self, did: &str, now: Seconds) -> bool {
        let known = self.users.get(&self.key(did));
        known
            .and_then(|known| known.exists)
            .is_some_and(|seen_at| now - seen_at < ROW_AGE)
    }

    fn is_forbidden(&self, did: &str, now: Seconds) -> Option<bool> {
        let opt_out = self.users.get(&self.key(did))?.opt_out?;
        (now - opt_out.read_at < OPT_OUT_AGE).then_some(opt_out.is_forbidden)
    }

    fn learn(&mut self, did: &str, change: impl FnOnce(&mut Known)) {
        if self.users.len() >= CAPACITY {
            self.users.clear();
        }
        let key = self.key(did);
        change(self.users.entry(key).or_default());
    }
}

/// Whether opt-outs, missing users, handles or profiles of `ops` require any statement.
pub fn needs_statements(ops: &[&Op], known: &KnownUsers) -> bool {
    let known = known.lock();
    let now = known.now();
    ops.iter().any(|op| {
        let (repo, subject) = op.users();
        op.table == Table::Users
            || op.heeds_opt_out() && known.is_forbidden(&op.repo, now).is_none()
            || [repo, subject].into_iter().flatten().any(|did| !known.exists(did, now))
    })
}

/// The DIDs among the repos of `ops` that forbid data collection.
pub fn forbidden<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    known: &KnownUsers,
) -> Result<HashSet<&'o str>, ApplyError> {
    let heeding = ops.iter().filter(|op| op.heeds_opt_out());
    let dids: BTreeSet<&str> = heeding.map(|op| op.repo.as_ref()).collect();
    let mut forbidden = HashSet::new();
    let mut asked = Vec::new();
    let now;
    {
        let known = known.lock();
        // Under the lock, no other worker's reading is later than this.
        now = known.now();
        for did in dids {
            match known.is_forbidden(did, now) {
                Some(true) => _ = forbidden.insert(did),
                Some(false) => {}
                None => asked.push(did),
            }
        }
    }
    if asked.is_empty() {
        return Ok(forbidden);
    }
    let rows = Params::new()
        .texts(asked.iter().copied())
        .query(client, sql::OPT_OUTS)?;
    let answer: HashSet<&str> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let mut known = known.lock();
    for did in asked {
        let is_forbidden = answer.contains(did);
        if is_forbidden {
            forbidden.insert(did);
        }
        let opt_out = OptOut {
            is_forbidden,
            read_at: now,
        };
        known.learn(did, |known| known.opt_out = Some(opt_out));
    }
    Ok(forbidden)
}

/// Creates the missing users, then sets handles and profiles. Returns the number of new users.
pub fn write(
    client: &mut Client,
    ensured: &BTreeMap<&str, Micros>,
    changes: &[UserChange],
    handles: &Handles,
) -> Result<i64, ApplyError> {
    let mut new = 0;
    if !ensured.is_empty() {
        new = Params::new()
            .texts(ensured.keys().copied())
            .times(ensured.values().copied())
            .execute(client, sql::USERS_ENSURE)?;
    }
    if !changes.is_empty() {
        new += lock(client, changes, handles)?;
        take_handles(client, handles)?;
        update(client, changes)?;
    }
    Ok(new as i64)
}

/// Locks the users to change, and creates those that are missing. Returns the number of new users.
fn lock(client: &mut Client, changes: &[UserChange], handles: &Handles) -> Result<u64, ApplyError> {
    let made = || changes.iter().filter(|change| makes_user(change));
    Params::new()
        .texts(made().map(|change| change.did))
        .texts(changes.iter().map(|change| change.did))
        .texts(handles.given().map(|(handle, _)| handle))
        .times(made().map(|change| change.time))
        .execute(client, sql::USERS_LOCK)
}

/// Takes the assigned handles from every other user that has them.
fn take_handles(client: &mut Client, handles: &Handles) -> Result<(), ApplyError> {
    if handles.given().next().is_some() {
        Params::new()
            .texts(handles.given().map(|(handle, _)| handle))
            .texts(handles.given().map(|(_, did)| did))
            .execute(client, sql::USERS_WITHOUT_HANDLE)?;
    }
    Ok(())
}

/// The users to create: those of `wanted` that are not known to exist, each with its earliest time.
pub fn missing<'o>(wanted: impl Iterator<Item = (&'o str, Micros)>, known: &KnownUsers) -> BTreeMap<&'o str, Micros> {
    let known = known.lock();
    let now = known.now();
    let mut missing = BTreeMap::new();
    for (did, time) in wanted.filter(|(did, _)| !known.exists(did, now)) {
        let earliest = missing.entry(did).or_insert(time);
        *earliest = time.min(*earliest);
    }
    missing
}

/// Whether the change creates a missing user. A handle or a profile does; the deletion of a profile does not.
fn makes_user(change: &UserChange) -> bool {
    change.handle.is_some() || matches!(change.profile, Some(Some(_)))
}

fn update(client: &mut Client, changes: &[UserChange]) -> Result<(), ApplyError> {
    let profiles: Vec<Profile> = changes.iter().map(Profile::of).collect();
    let handles: Vec<Option<&str>> = changes.iter().map(|change| change.handle).collect();
    Params::new()
        .texts(changes.iter().map(|change| change.did))
        .bools(changes.iter().map(|change| change.handle.is_some()))
        .optional_texts(handles.iter())
        .bools(changes.iter().map(|change| change.profile.is_some()))
        .optional_texts(profiles.iter().map(|profile| &profile.display_name))
        .optional_texts(profiles.iter().map(|profile| &profile.description))
        .optional_texts(profiles.iter().map(|profile| &profile.avatar_url))
        .optional_texts(profiles.iter().map(|profile| &profile.banner_url))
        .optional_jsons(profiles.iter().map(|profile| &profile.record))
        .optional_jsons(profiles.iter().map(|profile| &profile.pinned_post))
        .execute(client, sql::USERS_UPDATE)?;
    Ok(())
}

/// The profile columns of a change. All are absent if the change clears the profile or does not touch it.
#[derive(Default)]
struct Profile<'o> {
    display_name: Option<&'o str>,
    description: Option<&'o str>,
    avatar_url: Option<&'o str>,
    banner_url: Option<&'o str>,
    record: Option<&'o str>,
    pinned_post: Option<&'o str>,
}

impl<'o> Profile<'o> {
    fn of(change: &UserChange<'o>) -> Self {
        let Some(Some(profile)) = change.profile else {
            return Profile::default();
        };
        fn text<'o>(value: &'o Option<Cow<'o, str>>) -> Option<&'o str> {
            value.as_deref()
        }
        Profile {
            display_name: text(&profile.display_name),
            description: text(&profile.description),
            avatar_url: text(&profile.avatar_url),
            banner_url: text(&profile.banner_url),
            record: Some(&profile.profile_record),
            pinned_post: profile.pinned_post.as_deref(),
        }
    }
}
