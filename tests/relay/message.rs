//! A frame whose seq and time are filled in when it is sent, so that one recording can be served many times.

use std::ops::Range;

use serde_json::Value;

use crate::generator::Event;

/// What a relay sends as one binary message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// The values of `seq` and `time` in the body, encoded, in this order; empty where the frame has none.
    seq: Range<usize>,
    time: Range<usize>,
    /// Type and data of the entry that a consumer makes of it, if any.
    entry: Option<(String, Value)>,
}

impl Message {
    /// A whole frame, and what its entry is.
    pub(crate) fn new(bytes: Vec<u8>, entry: Option<(String, Value)>) -> Self {
        let (seq, time) = stamps(&bytes).unwrap_or_default();
        Self {
            bytes,
            seq,
            time,
            entry,
        }
    }

    /// Bytes that are sent as they are and that make no entry.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            seq: 0..0,
            time: 0..0,
            entry: None,
        }
    }

    /// The same frame, from which a consumer makes another entry, or none.
    pub(crate) fn with_entry(mut self, entry: Option<(String, Value)>) -> Self {
        self.entry = entry;
        self
    }

    /// The entry that a consumer makes of it at this seq.
    pub(crate) fn entry(&self, seq: u64) -> Option<Event> {
        let (kind, data) = self.entry.as_ref()?;
        Some(Event {
            kind: kind.clone(),
            data: data.to_string(),
            seq: seq.to_string(),
        })
    }

    /// The type of that entry.
    pub(crate) fn entry_type(&self) -> Option<&str> {
        self.entry.as_ref().map(|(kind, _)| kind.as_str())
    }

    pub(crate) fn has_seq(&self) -> bool {
        !self.seq.is_empty()
    }

    /// About as many bytes as the frame will have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The length of the frame with this seq and time.
    pub(crate) fn length(&self, seq: u64, time: &str) -> usize {
        if self.seq.is_empty() {
            return self.bytes.len();
        }
        let n_replaced = self.seq.len() + self.time.len();
        self.bytes.len() - n_replaced + length_of_head(seq) + length_of_head(time.len() as u64) + time.len()
    }

    /// Appends the frame with this seq and time.
    pub(crate) fn write(&self, seq: u64, time: &str, out: &mut Vec<u8>) {
        if self.seq.is_empty() {
            return out.extend(&self.bytes);
        }
        out.extend(&self.bytes[..self.seq.start]);
        push_head(out, 0, seq);
        out.extend(&self.bytes[self.seq.end..self.time.start]);
        push_head(out, 3, time.len() as u64);
        out.extend(time.as_bytes());
        out.extend(&self.bytes[self.time.end..]);
    }
}

/// Major type and number, in the shortest form.
fn push_head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    match number {
        0..24 => out.push(major | number as u8),
        24..0x100 => out.extend([major | 24, number as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend((number as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend((number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(number.to_be_bytes());
        }
    }
}

fn length_of_head(number: u64) -> usize {
    match number {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// Where the body has its seq and, after it, its time. `None` if the frame has not both.
fn stamps(frame: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let mut at = skip(frame, 0)?;
    let (5, n_members, mut next) = head(frame, at)? else {
        return None;
    };
    let (mut seq, mut time) = (None, None);
    for _ in 0..n_members {
        at = next;
        let value = skip(frame, at)?;
        next = skip(frame, value)?;
        match &frame[at..value] {
            b"\x63seq" => seq = Some(value..next),
            b"\x64time" => time = Some(value..next),
            _ => {}
        }
    }
    let (seq, time) = (seq?, time?);
    (seq.end <= time.start).then_some((seq, time))
}

/// Where the header of a frame ends and its body begins.
pub(crate) fn end_of_header(frame: &[u8]) -> Option<usize> {
    skip(frame, 0)
}

/// Where the item that begins at `at` ends.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let (major, number, next) = head(bytes, at)?;
    let n_items = match major {
        2 | 3 => return next.checked_add(number).filter(|end| *end <= bytes.len()),
        4 => number,
        5 => number.checked_mul(2)?,
        6 => 1,
        _ => 0,
    };
    (0..n_items).try_fold(next, |at, _| skip(bytes, at))
}

/// Major type and number of an item, and where they end.
fn head(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let first = *bytes.get(at)?;
    let (major, short) = (first >> 5, usize::from(first & 31));
    let length = match short {
        0..24 => return Some((major, short, at + 1)),
        24..28 => 1 << (short - 24),
        _ => return None,
    };
    let digits = bytes.get(at + 1..at + 1 + length)?;
    let number = digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit));
    Some((major, number, at + 1 + length))
}
