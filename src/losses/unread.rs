//! How many entries were trimmed before they were delivered to the group, found by comparing two samples of the stream.
//!
//! Between two samples the group's position advances by the entries that were delivered to it and by those that it
//! lost. The position follows from lengths and IDs (`StreamInfo::position`). The number of delivered entries comes from
//! this process's reader or from Redis. Pure.
//!
//! Invariant: what cannot be determined is not counted as lost, and no position is counted twice.

use std::fmt;

use crate::entry::EntryId;
use crate::group::stream_info::{GroupPosition, StreamInfo};

/// What a sample leaves for the next one, which another process may take after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The group's position, in entries ever added; `None` while it is unknown.
    pub position: Option<u64>,
    /// The newest entry delivered to the group.
    pub delivered: EntryId,
    entries_read: Option<u64>,
    added: u64,
    max_deleted: EntryId,
    /// The process of Redis that was sampled, if it is known.
    pub server: Option<RunId>,
}

/// The beginning of the run ID of a process of Redis, which is random.
pub type RunId = u64;

/// The source of the number of entries delivered to the group since the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// This process's reader, because no other consumer has read.
    Counted(u64),
    /// The entries-read of the same process of Redis, because other consumers read too, or because the period began
    /// before this process.
    ByRedis,
    /// None: Redis may have restarted in between, which sets entries-read back.
    Unknown,
}

/// Compares a sample with the previous one. Returns the new state and the number of entries lost in between, or `None`
/// before Redis 7.0, which does not count added entries.
pub fn compare(seen: Option<&Seen>, given: Given, info: &StreamInfo, server: Option<RunId>) -> Option<(Seen, u64)> {
    let at_sample = info.position()?;
    let expected = match seen {
        Some(seen) => seen.expected(given, info),
        None => before_the_first_sample(at_sample, info),
    };
    let lost = |at: u64| expected.map_or(0, |expected| at.saturating_sub(expected));
    let (position, lost) = match at_sample {
        GroupPosition::Exact(at) => (Some(at), lost(at)),
        GroupPosition::AtLeast(at) => (expected.map(|expected| expected.max(at)), lost(at)),
        GroupPosition::Unknown => (None, 0),
    };
    let seen = Seen {
        position,
        delivered: info.group.delivered,
        entries_read: info.group.entries_read,
        added: info.added?,
        max_deleted: info.max_deleted,
        server,
    };
    Some((seen, lost))
}

/// The group's position before the first sample, according to Redis. Of earlier losses, only a gap that is still open
/// is counted.
fn before_the_first_sample(at_sample: GroupPosition, info: &StreamInfo) -> Option<u64> {
    let is_usable = |read: &u64| match at_sample {
        GroupPosition::AtLeast(at) => *read >= at,
        _ => info.has_gap(),
    };
    info.group.entries_read.filter(is_usable)
}

impl Seen {
    /// The position that the group would have if nothing had been lost since, or `None` if it cannot be determined.
    fn expected(&self, given: Given, info: &StreamInfo) -> Option<u64> {
        let is_another = info.added? < self.added || info.group.delivered < self.delivered;
        // Another program deletes entries, which may have caused a gap.
        if is_another || self.has_deletions(info) {
            return None;
        }
        if info.group.delivered == self.delivered {
            return self.position;
        }
        let given = match given {
            Given::Counted(given) => given,
            Given::ByRedis => info.group.entries_read?.checked_sub(self.entries_read?)?,
            Given::Unknown => return None,
        };
        Some(self.position? + given)
    }

    /// Whether entries were deleted since.
    pub fn has_deletions(&self, info: &StreamInfo) -> bool {
        info.max_deleted != self.max_deleted
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let (position, entries_read) = (number(self.position), number(self.entries_read));
        let (delivered, added, max_deleted) = (self.delivered, self.added, self.max_deleted);
        let server = number(self.server);
        write!(
            f,
            "{position} {delivered} {entries_read} {added} {max_deleted} {server}"
        )
    }
}

impl Seen {
    /// Parses what `Display` writes.
    pub fn parse(text: &str) -> Option<Seen> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Seen {
            position: word()?.parse().ok(),
            delivered: EntryId::parse(word()?.as_bytes())?,
            entries_read: word()?.parse().ok(),
            added: word()?.parse().ok()?,
            max_deleted: EntryId::parse(word()?.as_bytes())?,
            server: word()?.parse().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::stream_info::GroupInfo;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, n: 0 }
    }

    /// Entries `first` to `added`, of which those up to the one numbered `delivered` were delivered to the group.
    fn info(first: u64, added: u64, delivered: u64, entries_read: Option<u64>) -> StreamInfo {
        let length = added + 1 - first;
        StreamInfo {
            length,
            added: Some(added),
            first: (length > 0).then_some(id(first)),
            last: id(added),
            group: GroupInfo {
                delivered: id(delivered),
                entries_read,
                ..GroupInfo::default()
            },
            ..StreamInfo::default()
        }
    }

    /// The losses found in each of these samples, the first of which is the first ever.
    fn lost(looks: &[(Given, StreamInfo)]) -> Vec<u64> {
        let mut seen = None;
        let look = |(given, info): &(Given, StreamInfo)| {
            let (next, lost) = compare(seen.as_ref(), *given, info, Some(1)).unwrap();
            seen = Seen::parse(&next.to_string());
            assert_eq!(seen, Some(next));
            lost
        };
        looks.iter().map(look).collect()
    }

    use Given::{ByRedis, Counted, Unknown};

    #[test]
    fn a_gap_is_counted_once_however_redis_goes_on_counting() {
        // Redis 7.0: entries-read counts deliveries.
        let counts = [
            (ByRedis, info(1, 100, 10, Some(10))),
            (ByRedis, info(41, 100, 10, Some(10))),
            (Counted(10), info(41, 100, 50, Some(20))),
            (Counted(50), info(41, 100, 100, Some(70))),
            (ByRedis, info(101, 100, 100, Some(70))),
        ];
        assert_eq!(lost(&counts), [0, 30, 0, 0, 0]);
        // Redis 8.2: entries-read jumps.
        let jumps = [
            (ByRedis, info(1, 10, 10, Some(10))),
            (Counted(10), info(41, 100, 50, Some(50))),
            (Counted(50), info(41, 100, 100, Some(100))),
        ];
        assert_eq!(lost(&jumps), [0, 21, 9]);
    }

    #[test]
    fn gaps_between_looks_are_found_by_what_was_given() {
        let looks = [
            (ByRedis, info(1, 10, 10, Some(10))),
            // Lost 11 to 40, delivered 41 to 60.
            (Counted(20), info(41, 100, 60, Some(30))),
            (Counted(40), info(61, 100, 100, Some(70))),
        ];
        assert_eq!(lost(&looks).iter().sum::<u64>(), 30);
        let by_redis: Vec<_> = looks.iter().map(|(_, info)| (ByRedis, info.clone())).collect();
        assert_eq!(lost(&by_redis).iter().sum::<u64>(), 30);
    }

    #[test]
    fn an_emptied_stream_has_lost_what_was_not_given() {
        let looks = [
            (ByRedis, info(1, 100, 100, Some(100))),
            (ByRedis, info(151, 150, 100, Some(100))),
            (ByRedis, info(151, 150, 100, Some(100))),
        ];
        assert_eq!(lost(&looks), [0, 50, 0]);
    }

    #[test]
    fn the_first_look_counts_a_gap_that_is_open_and_nothing_else() {
        assert_eq!(lost(&[(ByRedis, info(41, 100, 10, Some(10)))]), [30]);
        assert_eq!(lost(&[(ByRedis, info(41, 100, 0, None))]), [0]);
        assert_eq!(lost(&[(ByRedis, info(41, 100, 100, Some(70)))]), [0]);
    }

    #[test]
    fn a_restart_of_redis_that_sets_entries_read_back_loses_nothing() {
        let looks = [
            (ByRedis, info(1, 100, 100, Some(100))),
            (Unknown, info(1, 200, 150, Some(60))),
            (Counted(50), info(1, 200, 200, Some(110))),
            (Counted(10), info(100, 210, 210, Some(120))),
        ];
        assert_eq!(lost(&looks), [0, 0, 0, 0]);
        let looks = [
            (ByRedis, info(1, 100, 100, Some(100))),
            (ByRedis, info(1, 200, 150, Some(60))),
            // Nothing was delivered since the last sample: everything trimmed is lost.
            (Counted(50), info(1, 200, 200, None)),
            (Unknown, info(221, 250, 200, Some(7))),
        ];
        assert_eq!(lost(&looks), [0, 0, 0, 20]);
    }

    #[test]
    fn deleted_entries_and_another_stream_are_not_counted() {
        let deleted = StreamInfo {
            max_deleted: id(120),
            ..info(121, 200, 100, Some(100))
        };
        let after = StreamInfo {
            max_deleted: id(120),
            ..info(151, 200, 100, Some(100))
        };
        let looks = [
            (ByRedis, info(1, 100, 100, Some(100))),
            (ByRedis, deleted),
            (ByRedis, after),
        ];
        assert_eq!(lost(&looks), [0, 0, 30]);
        let looks = [
            (ByRedis, info(1, 100, 100, Some(100))),
            (ByRedis, info(6, 10, 0, None)),
            (ByRedis, info(8, 10, 0, None)),
        ];
        assert_eq!(lost(&looks), [0, 0, 2]);
    }
}
