//! A stream entry as Redis delivered it.
//!
//! Owns the entry's ID and its raw fields. The fields are kept unchanged, because a dead letter must store what
//! arrived. Their meaning belongs to `decode`.

use std::fmt;

/// The ID of a stream entry: milliseconds since 1970 and a number within the millisecond. IDs sort in stream order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub ms: u64,
    pub n: u64,
}

impl EntryId {
    /// Precedes every entry of a stream.
    pub const ZERO: EntryId = EntryId { ms: 0, n: 0 };

    /// The ID right before this one. A read after the returned ID begins with this one.
    pub fn before(self) -> EntryId {
        match self.n.checked_sub(1) {
            Some(n) => EntryId { ms: self.ms, n },
            None => self
                .ms
                .checked_sub(1)
                .map_or(EntryId::ZERO, |ms| EntryId { ms, n: u64::MAX }),
        }
    }

    /// Reads `ms-n`, the only form Redis sends.
    pub fn parse(text: &[u8]) -> Option<EntryId> {
        let text = std::str::from_utf8(text).ok()?;
        let (ms, n) = text.split_once('-')?;
        Some(EntryId {
            ms: ms.parse().ok()?,
            n: n.parse().ok()?,
        })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

/// One delivered entry, with the fields that producers write. `None` stands for a field that the entry lacks.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: EntryId,
    pub kind: Option<Box<[u8]>>,
    pub data: Option<Box<[u8]>>,
    pub seq: Option<Box<[u8]>>,
    /// How often Redis had delivered the entry when last queried. 1 for a new entry, for which no query is made.
    pub deliveries: u64,
}

impl Entry {
    /// Bytes of memory per entry in addition to its fields.
    pub const OVERHEAD: usize = 160;

    /// The entry's share of the byte limit: its fields and the overhead.
    pub fn weight(&self) -> usize {
        let len = |field: &Option<Box<[u8]>>| field.as_ref().map_or(0, |bytes| bytes.len());
        Self::OVERHEAD + len(&self.kind) + len(&self.data) + len(&self.seq)
    }

    /// An estimate in bytes of the memory that decoding and applying the entry takes. It depends on the size of
    /// the data and on the number of values that its JSON can have: a value takes the same memory however short its
    /// text.
    pub fn decoded_weight(&self) -> usize {
        const VALUE: usize = 80;
        let data = self.data.as_deref().unwrap_or_default();
        let is_mark = |byte: &u8| u8::from((*byte == b',') | (*byte == b'[') | (*byte == b'{'));
        // Sums bytes without branches, which lets the compiler vectorise the loop.
        let in_chunk = |chunk: &[u8]| usize::from(chunk.iter().map(is_mark).sum::<u8>());
        let values: usize = data.chunks(usize::from(u8::MAX)).map(in_chunk).sum();
        Self::OVERHEAD + 2 * data.len() + VALUE * values
    }
}

/// The position of an op in the stream: its entry, and its index among the entry's ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub entry: EntryId,
    pub op: u32,
}

impl Position {
    /// Precedes every op: the position of a record whose own position was not stored.
    pub const FIRST: Position = Position {
        entry: EntryId::ZERO,
        op: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time_then_number_and_print_as_they_came() {
        let early = EntryId::parse(b"9-10").unwrap();
        let late = EntryId::parse(b"10-2").unwrap();
        assert!(early < late);
        assert_eq!(late.to_string(), "10-2");
        assert_eq!(EntryId::parse(b"10"), None);
        assert_eq!(EntryId::parse(b"x-1"), None);
    }

    #[test]
    fn every_value_of_an_entry_weighs_however_many_there_are() {
        let entry = |data: &[u8]| Entry {
            id: EntryId::ZERO,
            kind: None,
            data: Some(data.into()),
            seq: None,
            deliveries: 1,
        };
        for number in [0, 1, 254, 255, 256, 1000] {
            let marks = entry(&b",[{"[..].repeat(number)).decoded_weight();
            assert_eq!(marks, Entry::OVERHEAD + 3 * number * (2 + 80), "{number}");
            let others = entry(&b"]}\""[..].repeat(number)).decoded_weight();
            assert_eq!(others, Entry::OVERHEAD + 3 * number * 2, "{number}");
        }
    }

    #[test]
    fn the_id_before_is_the_next_smaller_one() {
        for (id, before) in [("9-10", "9-9"), ("9-0", "8-18446744073709551615"), ("0-0", "0-0")] {
            assert_eq!(EntryId::parse(id.as_bytes()).unwrap().before().to_string(), before);
        }
    }
}
