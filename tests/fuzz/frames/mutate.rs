//! Mutates DAG-CBOR: bits and bytes, whole items, the form of their heads, and the values that they stand for.

use std::ops::Range;

use fastrand::Rng;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use serde::Deserialize;

use super::oracle;

/// Longer inputs only make it slow.
const MAX_LEN: usize = 32 << 10;

/// Items and parts of them that readers trip over.
const TOKENS: &[&[u8]] = &[
    b"\x00",
    b"\x17",
    b"\x18\x17",
    b"\x18\x18",
    b"\x19\x00\xff",
    b"\x1a\x00\x00\xff\xff",
    b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x1c",
    b"\x20",
    b"\x38\x00",
    b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x40",
    b"\x41\x00",
    b"\x58\x00",
    b"\x5f\x41\x00\xff",
    b"\x60",
    b"\x61a",
    b"\x62\xc3\xa9",
    b"\x62\xc3\x28",
    b"\x63\xed\xa0\x80",
    b"\x64\xf0\x9f\x98\x80",
    b"\x66\x00\x01\x1f\x22\x5c\x7f",
    b"\x78\x01a",
    b"\x7f\x61a\xff",
    b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80",
    b"\x81\x81\x81\x80",
    b"\x98\x00",
    b"\x9f\xff",
    b"\xa0",
    b"\xa1\x60\xf6",
    b"\xa1\x00\x00",
    b"\xa2\x61a\x00\x61a\x00",
    b"\xa2\x61b\x00\x61a\x00",
    b"\xb8\x00",
    b"\xbf\xff",
    b"\xc0\x60",
    b"\xc2\x41\x01",
    b"\xc3\x41\x01",
    b"\xd8\x2a\x45\x00\x01\x71\x00\x00",
    b"\xd8\x2a\x46\x00\x01\x71\x00\x00\x00",
    b"\xd8\x2a\x46\x00\x01\x81\x00\x00\x00",
    b"\xd8\x2a\x40",
    b"\xd8\x2a\x41\x00",
    b"\xd9\x00\x2a\x45\x00\x01\x71\x00\x00",
    b"\xd8\x2a\x58\x23\x00\x12\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"\xd8\x2a\x58\x26\x00\x01\x71\x12\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"\xd8\x2b\x41\x00",
    b"\xf4",
    b"\xf5",
    b"\xf6",
    b"\xf7",
    b"\xf8\x14",
    b"\xf8\xff",
    b"\xf9\x3c\x00",
    b"\xfa\x3f\x80\x00\x00",
    b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xfb\x80\x00\x00\x00\x00\x00\x00\x01",
    b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xff",
    b"\x62op",
    b"\x61t",
    b"\x63seq",
    b"\x63ops",
    b"\x64repo",
    b"\x63cid",
    b"\x67#commit",
    b"\x69#identity",
    b"\x66update",
    b"\x66delete",
];

/// Names of members, those of events among them.
const NAMES: &[&str] = &[
    "",
    "a",
    "ab",
    "é",
    "zzzzzzzzzzzzzzzzzzzzzzzz",
    "$type",
    "$link",
    "$bytes",
    "op",
    "t",
    "seq",
    "did",
    "repo",
    "ops",
    "time",
    "rev",
    "blocks",
    "commit",
    "handle",
    "active",
    "status",
    "name",
    "error",
    "message",
    "path",
    "action",
    "cid",
];

/// Texts, those that events contain among them.
const TEXTS: &[&str] = &[
    "",
    "a",
    "\0",
    "\u{1f}\"\\",
    "é😀\u{2028}",
    "did:plc:a",
    "did:plc:",
    "create",
    "update",
    "delete",
    "takendown",
    "app.bsky.feed.post/a",
    "app.bsky.feed.post",
    "app.bsky.feed.post/..",
    "x/y",
    "$serde_json::private::Number",
    "twenty-four bytes of text",
    "3n3f4z3skds2j",
];

pub(crate) struct Mutator {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            corpus: corpus.into_iter().filter(|bytes| bytes.len() <= MAX_LEN).collect(),
        }
    }

    pub(crate) fn input(&mut self) -> Vec<u8> {
        let mut bytes = self.corpus[self.rng.usize(..self.corpus.len())].clone();
        // Other values in a valid encoding, violations of the encoding, or both.
        let kind = self.rng.u8(0..3);
        if kind != 0 {
            bytes = self.mutate_values(&bytes);
        }
        if kind != 1 {
            // One violation is found by one rule; several hide each other.
            for _ in 0..self.rng.usize(1..=2) {
                match self.rng.bool() {
                    true => self.mutate_bytes(&mut bytes),
                    false => self.mutate_items(&mut bytes),
                }
            }
        }
        bytes.truncate(MAX_LEN);
        bytes
    }

    /// Gives the items of a message, or the only item of a record, other values.
    fn mutate_values(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut deserializer = serde_ipld_dagcbor::de::Deserializer::from_slice(bytes);
        let mut items = Vec::new();
        while deserializer.end().is_err() {
            items.push(Ipld::deserialize(&mut deserializer).expect("the corpus is valid"));
        }
        for _ in 0..self.rng.usize(1..=3) {
            // The last item has the content.
            let item = items.last_mut().expect("an item");
            let place = node(item, &mut self.rng);
            match place {
                Ipld::Map(members) if self.rng.bool() => {
                    match self.rng.choice(members.keys().cloned().collect::<Vec<_>>()) {
                        Some(name) if self.rng.bool() => _ = members.remove(&name),
                        _ => {
                            let name = NAMES[self.rng.usize(..NAMES.len())].to_owned();
                            members.insert(name, value(&mut self.rng));
                        }
                    }
                }
                Ipld::List(values) if self.rng.bool() => values.push(value(&mut self.rng)),
                place => *place = value(&mut self.rng),
            }
        }
        items.iter().flat_map(oracle::encode).collect()
    }

    fn mutate_bytes(&mut self, bytes: &mut Vec<u8>) {
        match self.rng.u8(0..6) {
            0 if !bytes.is_empty() => {
                let at = self.rng.usize(..bytes.len());
                bytes[at] ^= 1 << self.rng.u8(0..8);
            }
            1 => _ = bytes.drain(self.range(bytes, 40)),
            2 => {
                let range = self.range(bytes, 100);
                let copy = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copy);
            }
            3 => bytes.truncate(self.rng.usize(..=bytes.len())),
            4 => {
                let at = self.rng.usize(..=bytes.len());
                bytes.splice(at..at, self.token().iter().copied());
            }
            _ => {
                let other = &self.corpus[self.rng.usize(..self.corpus.len())];
                let from = self.rng.usize(..=other.len());
                let part: Vec<u8> = other[from..].iter().take(self.rng.usize(..100)).copied().collect();
                let range = self.range(bytes, 100);
                bytes.splice(range, part);
            }
        }
    }

    fn mutate_items(&mut self, bytes: &mut Vec<u8>) {
        let items = items(bytes);
        let Some(item) = self.rng.choice(&items).cloned() else {
            return;
        };
        match self.rng.u8(0..8) {
            0 => _ = bytes.splice(item, self.token().iter().copied()),
            1 => _ = bytes.splice(item.start..item.start, self.token().iter().copied()),
            2 => {
                let copy = bytes[item.clone()].to_vec();
                bytes.splice(item.end..item.end, copy);
            }
            3 => _ = bytes.drain(item),
            4 => {
                // A container's length, or a number, off by one.
                let step = if self.rng.bool() { 1 } else { 0xff };
                bytes[item.start] = bytes[item.start].wrapping_add(step);
            }
            5 => widen(bytes, item.start),
            6 => {
                let depth = self.rng.usize(1..80);
                let open: &[u8] = if self.rng.bool() { &[0x81] } else { &[0xa1, 0x60] };
                bytes.splice(item.start..item.start, open.repeat(depth));
            }
            // Two neighbours change places.
            _ => {
                if let Some(next) = items.iter().find(|next| next.start == item.end) {
                    let swapped = [&bytes[next.clone()], &bytes[item.clone()]].concat();
                    bytes.splice(item.start..next.end, swapped);
                }
            }
        }
    }

    fn token(&mut self) -> &'static [u8] {
        TOKENS[self.rng.usize(..TOKENS.len())]
    }

    fn range(&mut self, bytes: &[u8], max_len: usize) -> Range<usize> {
        let start = self.rng.usize(..=bytes.len());
        let len = self.rng.usize(..=max_len).min(bytes.len() - start);
        start..start + len
    }
}

/// A value somewhere in the tree.
fn node<'a>(value: &'a mut Ipld, rng: &mut Rng) -> &'a mut Ipld {
    let n_below = match &*value {
        Ipld::List(values) => values.len(),
        Ipld::Map(members) => members.len(),
        _ => 0,
    };
    if n_below == 0 || rng.u8(0..8) == 0 {
        return value;
    }
    let below = rng.usize(..n_below);
    match value {
        Ipld::List(values) => node(&mut values[below], rng),
        Ipld::Map(members) => node(members.values_mut().nth(below).expect("counted"), rng),
        _ => unreachable!("nothing is below a plain value"),
    }
}

fn value(rng: &mut Rng) -> Ipld {
    let text = TEXTS[rng.usize(..TEXTS.len())];
    match rng.u8(0..12) {
        0 => Ipld::Null,
        1 => Ipld::Bool(rng.bool()),
        2 => Ipld::Integer(i128::from(rng.u64(..)) >> rng.u8(0..64)),
        3 => Ipld::Integer(-1 - (i128::from(rng.u64(..)) >> rng.u8(0..64))),
        4 => Ipld::Float(
            Some(f64::from_bits(rng.u64(..)))
                .filter(|float| float.is_finite())
                .unwrap_or(0.5),
        ),
        5 => Ipld::Bytes((0..rng.usize(..40)).map(|_| rng.u8(..)).collect()),
        6 => {
            let digest = *oracle::cid(text.as_bytes()).hash();
            Ipld::Link(Cid::new_v1(rng.u64(..) >> rng.u8(0..64), digest))
        }
        7 => Ipld::List((0..rng.usize(..30)).map(|n| Ipld::Integer(n as i128)).collect()),
        8 => Ipld::Map(
            NAMES
                .iter()
                .take(rng.usize(..30))
                .map(|name| ((*name).to_owned(), Ipld::Null))
                .collect(),
        ),
        9 => (0..rng.usize(..70)).fold(Ipld::Null, |inside, _| Ipld::List(vec![inside])),
        _ => Ipld::String(text.to_owned()),
    }
}

/// Writes the argument of a head in the next wider form.
fn widen(bytes: &mut Vec<u8>, at: usize) {
    let (major, info) = (bytes[at] & 0xe0, bytes[at] & 0x1f);
    match info {
        0..=23 => _ = bytes.splice(at..=at, [major | 24, info]),
        24..=26 => {
            let n_zeros = 1 << (info - 24);
            bytes[at] += 1;
            bytes.splice(at + 1..at + 1, vec![0; n_zeros]);
        }
        _ => {}
    }
}

/// All items, as far as heads can be read: strings and numbers whole, containers and tags by their heads alone.
fn items(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let n_bytes = match first & 0x1f {
            0..=23 => 0,
            info @ 24..=27 => 1 << (info - 24),
            _ => return items,
        };
        let Some(argument) = bytes.get(at + 1..at + 1 + n_bytes) else {
            return items;
        };
        let argument = argument
            .iter()
            .fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        let argument = if n_bytes == 0 {
            usize::from(first & 0x1f)
        } else {
            argument
        };
        let content = if matches!(first >> 5, 2 | 3) { argument } else { 0 };
        let Some(end) = (at + 1 + n_bytes)
            .checked_add(content)
            .filter(|end| *end <= bytes.len())
        else {
            return items;
        };
        items.push(at..end);
        at = end;
    }
    items
}
