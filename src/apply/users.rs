//! Users rows: who must exist, who has opted out, handles and profiles.
//!
//! Owns `users` and the reading of opt-outs. Users are made in a short transaction of their own, before the batch's:
//! other workers' inserts of the same user wait for it, and a users row is harmless alone.
//!
//! Invariant: a DID is taken for known only after the transaction that made its row has committed. No users row is ever
//! deleted, so a known one stays known.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use postgres::Client;

use super::params::Params;
use crate::fold::UserChange;
use crate::rows::{Op, Table};
use crate::servers::fault::ApplyError;
use crate::servers::sql;

/// What a worker remembers of the users it has met, so that it need not ask again.
#[derive(Default)]
pub struct KnownUsers {
    users: HashMap<u128, Known>,
    hashers: (RandomState, RandomState),
}

#[derive(Clone, Copy, Default)]
struct Known {
    exists: bool,
    opt_out: Option<OptOut>,
}

#[derive(Clone, Copy)]
struct OptOut {
    is_forbidden: bool,
    read_at: Instant,
}

/// Users remembered at most; an entry takes about 50 bytes with what the table keeps free. When they are too many all are
/// forgotten: the next batch asks again.
const CAPACITY: usize = 50_000;

/// An opt-out is heeded this long after it was set, at the latest.
const OPT_OUT_AGE: Duration = Duration::from_secs(60);

impl KnownUsers {
    /// DIDs are told apart by 128 bits of two keyed hashes: no two meet by chance, and nobody can aim at it.
    fn key(&self, did: &str) -> u128 {
        u128::from(self.hashers.0.hash_one(did)) << 64 | u128::from(self.hashers.1.hash_one(did))
    }

    fn exists(&self, did: &str) -> bool {
        self.users.get(&self.key(did)).is_some_and(|known| known.exists)
    }

    fn is_forbidden(&self, did: &str, now: Instant) -> Option<bool> {
        let opt_out = self.users.get(&self.key(did))?.opt_out?;
        (now.duration_since(opt_out.read_at) < OPT_OUT_AGE).then_some(opt_out.is_forbidden)
    }

    fn learn(&mut self, did: &str, change: impl FnOnce(&mut Known)) {
        if self.users.len() >= CAPACITY {
            self.users.clear();
        }
        change(self.users.entry(self.key(did)).or_default());
    }
}

/// Whether any statement is needed to say who of `ops` has opted out, who must be made, and what they are called.
pub fn needs_statements(ops: &[&Op], known: &KnownUsers) -> bool {
    let now = Instant::now();
    ops.iter().any(|op| {
        let (repo, subject) = op.users();
        op.table == Table::Users
            || op.heeds_opt_out() && known.is_forbidden(&op.repo, now).is_none()
            || [repo, subject].into_iter().flatten().any(|did| !known.exists(did))
    })
}

/// The DIDs among those of `ops` that forbid data collection.
pub fn forbidden<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    known: &mut KnownUsers,
) -> Result<HashSet<&'o str>, ApplyError> {
    let now = Instant::now();
    let heeding = ops.iter().filter(|op| op.heeds_opt_out());
    let dids: BTreeSet<&str> = heeding.map(|op| op.repo.as_ref()).collect();
    let mut forbidden = HashSet::new();
    let mut asked = Vec::new();
    for did in dids {
        match known.is_forbidden(did, now) {
            Some(true) => _ = forbidden.insert(did),
            Some(false) => {}
            None => asked.push(did),
        }
    }
    if asked.is_empty() {
        return Ok(forbidden);
    }
    let rows = Params::new()
        .texts(asked.iter().copied())
        .query(client, sql::OPT_OUTS)?;
    let answer: HashSet<&str> = rows.iter().map(|row| row.get(0)).collect();
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

/// Makes the users that are missing, then sets handles and profiles. Returns how many users are new.
pub fn write(client: &mut Client, ensured: &BTreeSet<&str>, changes: &[UserChange]) -> Result<i64, ApplyError> {
    let mut new = 0;
    if !ensured.is_empty() {
        new = Params::new()
            .texts(ensured.iter().copied())
            .execute(client, sql::USERS_ENSURE)?;
    }
    if !changes.is_empty() {
        update(client, changes)?;
    }
    Ok(new as i64)
}

/// The users to be made: `wanted` and those who get a handle or a profile, less those known to exist.
pub fn missing<'o>(
    wanted: impl Iterator<Item = &'o str>,
    changes: &[UserChange<'o>],
    known: &KnownUsers,
) -> BTreeSet<&'o str> {
    let of_changes = changes
        .iter()
        .filter(|change| makes_user(change))
        .map(|change| change.did);
    wanted.chain(of_changes).filter(|did| !known.exists(did)).collect()
}

impl KnownUsers {
    /// Remembers users whose rows are committed.
    pub fn committed(&mut self, dids: &BTreeSet<&str>) {
        for did in dids {
            self.learn(did, |known| known.exists = true);
        }
    }
}

/// A handle or a profile is of a user who exists; a deleted profile need not be.
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

/// The profile columns of a change, all absent where it clears them or leaves them alone.
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
