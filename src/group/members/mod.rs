//! Thread `members`: the processes that write to the database.
//!
//! Owns membership: joining before anything is read, joining again if this process is no longer a member, leaving,
//! removing dead members once everything that they may have read is acknowledged, announcing this process's progress,
//! and pruning versions. The check that each commit makes is in `member`.
//!
//! Invariants: a process that joins reads nothing until every later commit of the others knows about it. A member is
//! removed only after everything delivered in its possible lifetime is acknowledged, and from then on it commits
//! nothing. A version is pruned only when no member holds an entry from before that version, and none can be delivered
//! to a member. Redis knows what is acknowledged; each member announces what it holds, because Redis may have lost
//! acknowledgements.

pub mod gate;
pub mod member;
mod progress;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::entry::EntryId;
use crate::group::consumer::Consumer;
use crate::group::members::member::Member;
use crate::group::session::Session;
use crate::in_flight::InFlight;
use crate::lease::holder::{Holder, LEASE, Proof};
use crate::lease::mark;
use crate::logging::shown;
use crate::metrics::Metrics;
use crate::postgres::client::Client;
use crate::postgres::db::Db;
use crate::postgres::fault::ApplyError;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::config::Config;
use progress::GroupProgress;
use table::MemberRow;

/// The delay until a worker's discovery is acted upon.
const TICK: Duration = Duration::from_millis(200);

/// How often dead members are looked for and versions are pruned, while there are other members.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The consequence of lacking the rights.
const UNSEEN: &str =
    "it is unknown which processes are alive and how far the group is: versions are written and not pruned";
const RULE: &str = "~firehose:worker:* +get +xinfo +xpending";

/// Slices pruned at a time: more than one second produces.
const MAX_SLICES: u32 = 20;

/// This process as one of those that write to the database.
pub struct Members {
    db: Db,
    link: Link,
    consumer: Consumer,
    me: MemberRow,
    proof: Proof,
    member: Member,
    in_flight: Arc<InFlight>,
    session: Session,
    metrics: Arc<Metrics>,
    joined_at: Instant,
    /// The last announcement to the other members.
    announced: Option<Announced>,
    /// Members that seem to be dead, until they are removed.
    gone: Option<DeadMembers>,
    versions: Versions,
    polled_at: Instant,
    has_said_others: bool,
}

/// What the thread shares with other threads.
pub struct Shared {
    pub in_flight: Arc<InFlight>,
    pub session: Session,
    pub metrics: Arc<Metrics>,
}

/// What this process has announced to the other members.
#[derive(Clone, Copy)]
struct Announced {
    /// The process holds no entry from before this one.
    floor: EntryId,
    /// The number of connections to PostgreSQL requested by then: a later connection may reach another server.
    connections: u64,
    /// How often the group had been created again by then.
    streams: u64,
}

struct DeadMembers {
    ids: BTreeSet<i64>,
    since: Instant,
    /// Entries up to this one may have been delivered to them.
    delivered: EntryId,
}

/// Which versions may exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Any,
    /// None after this entry.
    UpTo(EntryId),
    None,
}

/// Whether a member is alive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Lives,
    /// Its key does not exist: the member is dead, or it renews the key too late.
    SeemsGone,
    Gone,
}

impl Members {
    /// `holder` must hold the consumer name already.
    pub fn new(redis: &Redis, db: &Db, config: &Config, holder: &Holder, shared: Shared) -> Members {
        let proof = holder.proof();
        let id = fastrand::i64(1..);
        Members {
            db: db.clone(),
            link: redis.link(Duration::ZERO),
            consumer: Consumer::new(config),
            me: MemberRow {
                id,
                consumer: config.consumer.clone(),
                lease_key: proof.lease_key().to_owned(),
                mark: proof.mark.clone(),
                has_left: false,
            },
            proof,
            member: Member::new(id, holder.lease()),
            in_flight: shared.in_flight,
            session: shared.session,
            metrics: shared.metrics,
            joined_at: Instant::now(),
            announced: None,
            gone: None,
            versions: Versions::Any,
            polled_at: Instant::now(),
            has_said_others: false,
        }
    }

    /// The handle that transactions check.
    pub fn member(&self) -> Member {
        self.member.clone()
    }

    /// Joins, and retries until that succeeds. Fails if a stop is requested first.
    pub fn join(&mut self, stop: &Stop) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            stop.check()?;
            self.proof.lease_key().clone_into(&mut self.me.lease_key);
            match self.db.with(|client| table::join(client, &self.me)) {
                Ok(lines) => {
                    self.db.report_up();
                    self.joined_at = Instant::now();
                    self.see(&lines);
                    return Ok(());
                }
                Err(error) => {
                    tries += 1;
                    self.db.report_retry(&error, tries);
                    self.db.make_missing_own_tables(&error);
                }
            }
            backoff.wait(stop)?;
        }
    }

    /// Maintains the membership until `stop`, then leaves.
    pub fn keep(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(TICK) {
            if self.member.is_removed() {
                self.join_again(stop);
            }
            self.show_proof();
            if self.member.take_writes_versions() {
                self.versions = Versions::Any;
            }
            let has_work = self.member.has_others() || self.versions != Versions::None;
            if self.polled_at.elapsed() < POLL_INTERVAL {
                continue;
            }
            if has_work {
                self.poll();
            } else {
                self.tell_alone();
            }
        }
        if self.member.has_others() {
            self.poll();
        }
        // If leaving fails, the others consider this process dead when its lease ends.
        if let Err(error) = self.db.with_spare(|client| table::leave(client, self.me.id)) {
            log::debug!("failed to leave: {}", error.describe());
        }
        Ok(())
    }

    /// Joins again after another process declared this one dead, or after PostgreSQL has returned to a state from
    /// before this process joined. What was read before is not applied here: another process may have applied it, and
    /// what follows it.
    fn join_again(&mut self, stop: &Stop) {
        let connections = self.db.connections();
        if self
            .announced
            .is_some_and(|announced| announced.connections == connections)
        {
            log::warn!(
                "another process declared this one dead, as after a lost connection to redis: this process releases what it holds, \
                 joins again and reads what is still pending for it"
            );
        } else {
            log::warn!(
                "postgresql has gone back to before this process joined, {} s ago: what it has applied since is missing there and \
                 acknowledged in redis; have it delivered again, see \"After a server has gone back\" in OPERATIONS.md",
                self.joined_at.elapsed().as_secs()
            );
        }
        self.session.bar();
        while !self.session.is_left() || !self.in_flight.wait_until_empty(Duration::ZERO) {
            if stop.wait(TICK) {
                return;
            }
        }
        self.me.id = fastrand::i64(1..);
        self.announced = None;
        if self.join(stop).is_ok() {
            self.member.has_rejoined(self.me.id);
        }
        self.session.unbar();
    }

    /// Records the progress of a process that is the only member, so that a PostgreSQL server in an earlier state is
    /// detected.
    fn tell_alone(&mut self) {
        self.polled_at = Instant::now();
        let floor = match GroupProgress::read(&mut self.link, &self.consumer) {
            Ok(progress) => self.in_flight.floor(progress.unsettled),
            Err(error) => {
                log::debug!("failed to read the group's progress: {}", link::describe(&error));
                None
            }
        };
        let (connections, streams) = (self.db.connections(), self.metrics.groups_recreated());
        let is_announced = |announced: Announced, floor| {
            announced.floor >= floor && announced.connections == connections && announced.streams == streams
        };
        let Some(floor) =
            floor.filter(|floor| !self.announced.is_some_and(|announced| is_announced(announced, *floor)))
        else {
            return;
        };
        let db = self.db.clone();
        if let Err(error) = db.with_spare(|client| self.tell(client, floor)) {
            log::debug!("failed to record this process's progress: {}", error.describe());
        }
    }

    /// Announces that this process holds no entry from before `floor` and will accept none. If Redis returns to an
    /// earlier state, earlier announcements stay true, since everything before them was applied. A new stream may have
    /// lower IDs, so that the announcements start over.
    fn tell(&mut self, client: &mut Client, floor: EntryId) -> Result<(), ApplyError> {
        let (connections, streams) = (self.db.connections(), self.metrics.groups_recreated());
        let before = self.announced.filter(|announced| announced.streams == streams);
        let floor = before.map_or(floor, |announced| announced.floor.max(floor));
        match (table::settle(client, self.me.id, floor)?, self.announced) {
            (None, _) => {
                self.member.removed();
                return Ok(());
            }
            (Some(found), Some(announced)) if found < announced.floor && announced.connections != connections => {
                log::warn!(
                    "postgresql has gone back: entries after {found} were applied up to {} and are missing there, {:.1} s of \
                 them; they are acknowledged in redis; have them delivered again, see \"After a server has gone back\" in OPERATIONS.md",
                    announced.floor,
                    announced.floor.ms.saturating_sub(found.ms) as f64 / 1000.0
                )
            }
            _ => {}
        }
        self.announced = Some(Announced {
            floor,
            connections,
            streams,
        });
        Ok(())
    }

    /// Publishes whether there is a key that proves that this process is alive.
    fn show_proof(&mut self) {
        let lease_key = self.proof.lease_key();
        if lease_key == self.me.lease_key {
            return;
        }
        match self.db.with_spare(|client| table::prove(client, self.me.id, lease_key)) {
            Ok(()) => lease_key.clone_into(&mut self.me.lease_key),
            Err(error) => log::debug!(
                "failed to publish the key that proves that this process is alive: {}",
                error.describe()
            ),
        }
    }

    fn poll(&mut self) {
        self.polled_at = Instant::now();
        let db = self.db.clone();
        if let Err(error) = db.with_spare(|client| self.poll_with(client)) {
            log::debug!("failed to check for other processes: {}", error.describe());
        }
    }

    fn poll_with(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        let lines = table::read(client)?;
        let others = self.see(&lines);
        // Liveness is determined before progress, so that nothing can be delivered to a dead member in between.
        let seen = self
            .judge(&others)
            .and_then(|gone| Ok((gone, GroupProgress::read(&mut self.link, &self.consumer)?)));
        // The only member keeps nothing that others wait for if it lacks the rights.
        let seen = match seen {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if !self.member.has_others() => Err(error),
            seen => self.link.optional(seen, UNSEEN, RULE),
        };
        let ((gone, is_sure), progress) = match seen {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(()),
            Err(error) => {
                log::debug!("failed to check for other processes: {}", link::describe(&error));
                return Ok(());
            }
        };
        self.take_out(client, gone, is_sure, &progress)?;
        self.prune(client, &lines, &progress)
    }

    /// Records whether there are other members, and returns them.
    fn see(&mut self, lines: &[MemberRow]) -> Vec<MemberRow> {
        let others: Vec<MemberRow> = lines.iter().filter(|line| line.id != self.me.id).cloned().collect();
        self.member.set_has_others(!others.is_empty());
        if others.is_empty() && self.has_said_others {
            log::info!("no other process writes to this database: its versions are no longer needed");
        } else if !others.is_empty() && !self.has_said_others {
            let names: BTreeSet<&str> = others.iter().map(|line| line.consumer.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            log::info!(
                "other processes write to this database, or have left entries pending ({}): versions keep the order",
                shown::list(&names)
            );
        }
        self.has_said_others = !others.is_empty();
        others
    }

    /// The members that seem to be dead, and whether all of them certainly are.
    fn judge(&mut self, others: &[MemberRow]) -> RedisResult<(BTreeSet<i64>, bool)> {
        let mut gone = BTreeSet::new();
        let mut is_sure = true;
        for line in others {
            let life = self.life(line)?;
            if life != Life::Lives {
                gone.insert(line.id);
            }
            is_sure &= life != Life::SeemsGone;
        }
        Ok((gone, is_sure))
    }

    fn life(&mut self, line: &MemberRow) -> RedisResult<Life> {
        if line.has_left || mark::is_gone(&line.mark) {
            return Ok(Life::Gone);
        }
        if line.lease_key.is_empty() {
            return Ok(Life::Lives);
        }
        let mark: Option<String> = self.link.query(redis::cmd("GET").arg(&line.lease_key))?;
        Ok(match mark.as_deref() == Some(&line.mark) {
            true => Life::Lives,
            false => Life::SeemsGone,
        })
    }

    /// Removes dead members once everything that may have been delivered to them is acknowledged.
    fn take_out(
        &mut self,
        client: &mut Client,
        ids: BTreeSet<i64>,
        is_sure: bool,
        progress: &GroupProgress,
    ) -> Result<(), ApplyError> {
        if ids.is_empty() {
            self.gone = None;
            return Ok(());
        }
        let gone = match self.gone.take().filter(|gone| gone.ids == ids) {
            Some(gone) => gone,
            None => DeadMembers {
                ids,
                since: Instant::now(),
                delivered: progress.delivered,
            },
        };
        let is_sure = is_sure || gone.since.elapsed() >= LEASE;
        if is_sure && progress.unsettled > gone.delivered {
            let ids: Vec<i64> = gone.ids.iter().copied().collect();
            table::remove(client, &ids)?;
            log::info!(
                "{} other processes have ended, and everything they had read is acknowledged",
                ids.len()
            );
        } else {
            self.gone = Some(gone);
        }
        Ok(())
    }

    /// Deletes the versions that no late op can need.
    fn prune(&mut self, client: &mut Client, lines: &[MemberRow], progress: &GroupProgress) -> Result<(), ApplyError> {
        self.versions = match self.versions {
            _ if lines.len() > 1 => Versions::Any,
            Versions::Any => Versions::UpTo(progress.delivered),
            known => known,
        };
        let Some(floor) = self.in_flight.floor(progress.unsettled) else {
            return Ok(());
        };
        self.tell(client, floor)?;
        let mut pruned = 0;
        for _ in 0..MAX_SLICES {
            let slice = table::prune(client)?;
            pruned += slice;
            if slice == 0 {
                break;
            }
        }
        match self.versions {
            Versions::UpTo(last) if pruned == 0 && floor > last => self.versions = Versions::None,
            _ => {}
        }
        Ok(())
    }
}
