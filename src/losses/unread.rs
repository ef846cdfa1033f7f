//! How many entries were trimmed before the group was given them: two looks at the stream compared.
//!
//! Between two looks the group moves by the entries that it was given, and by those that it lost. Where it stands, lengths
//! and IDs say (`StreamInfo::place`); what it was given, the own reader counts, or Redis does. Pure.
//!
//! Invariant: what cannot be told is not counted as lost; a place that was passed is not counted again.

use std::fmt;

use crate::entry::EntryId;
use crate::group::stream_info::{GroupPosition, StreamInfo};

/// What a look leaves for the next one, which may be another process's after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The group's place, in entries ever added; `None` while nothing says it.
    pub position: Option<u64>,
    /// The newest entry that the group had been given.
    pub delivered: EntryId,
    entries_read: Option<u64>,
    added: u64,
    max_deleted: EntryId,
}

/// Who says how many entries the group was given since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The own reader: nobody else read.
    Counted(u64),
    /// Redis, by entries-read: others read too, or it was before this process began.
    ByRedis,
    /// Nobody: Redis may have restarted meanwhile.
    Unknown,
}

/// Compares a look with the one before; the new state, and how many entries were lost in between. `None` before Redis 7.0,
/// which does not count what was added.
pub fn compare(seen: Option<&Seen>, given: Given, info: &StreamInfo) -> Option<(Seen, u64)> {
    let place = info.place()?;
    let expected = match seen {
        Some(seen) => seen.expected(given, info),
        None => before_the_first_look(place, info),
    };
    let lost = |at: u64| expected.map_or(0, |expected| at.saturating_sub(expected));
    let (position, lost) = match place {
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
    };
    Some((seen, lost))
}

/// Where the group stood before anybody looked, by Redis' count: of what was lost then only a gap that is still open is
/// counted.
fn before_the_first_look(place: GroupPosition, info: &StreamInfo) -> Option<u64> {
    let is_usable = |read: &u64| match place {
        GroupPosition::AtLeast(at) => *read >= at,
        _ => info.has_gap(),
    };
    info.group.entries_read.filter(is_usable)
}

impl Seen {
    /// Where the group would stand if nothing had been lost since; `None` where that cannot be told.
    fn expected(&self, given: Given, info: &StreamInfo) -> Option<u64> {
        let is_another = info.added? < self.added || info.group.delivered < self.delivered;
        // Somebody deletes entries: a gap may be of his making.
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
        write!(f, "{position} {delivered} {entries_read} {added} {max_deleted}")
    }
}

impl Seen {
    /// Reads what `Display` has written.
    pub fn parse(text: &str) -> Option<Seen> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Seen {
            position: word()?.parse().ok(),
            delivered: EntryId::parse(word()?.as_bytes())?,
            entries_read: word()?.parse().ok(),
            added: word()?.parse().ok()?,
            max_deleted: EntryId::parse(word()?.as_bytes())?,
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

    /// Entries `first` to `added`, of which the group was given the one numbered `delivered`.
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

    /// What was lost in each of these looks, the first of which is the first ever.
    fn lost(looks: &[(Given, StreamInfo)]) -> Vec<u64> {
        let mut seen = None;
        let look = |(given, info): &(Given, StreamInfo)| {
            let (next, lost) = compare(seen.as_ref(), *given, info).unwrap();
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
            // Lost 11 to 40, given 41 to 60.
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
            // Nothing was given since the look before it: what was trimmed is lost.
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
