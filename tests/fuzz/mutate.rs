//! Mutates events into inputs: bytes, tokens, and the text between two tokens.

use std::ops::Range;

use fastrand::Rng;
use serde_json::Value;

/// Longer inputs only make it slow.
const MAX_LEN: usize = 32 << 10;

/// What readers of JSON, of text and of this stream trip over.
const TOKENS: &[&[u8]] = &[
    b"null",
    b"true",
    b"0",
    b"-0",
    b"-1",
    b"1e400",
    b"-1e-400",
    b"18446744073709551616",
    b"123456789012345678901234567890123456789012345678901234567890",
    b"NaN",
    b"[]",
    b"{}",
    b"\"\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"]",
    b"}",
    b"\"",
    b"\\",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\\ud83d\\ude00",
    b"\\u00",
    b"\0",
    b"\x01",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\"repo\":\"did:plc:other\",",
    b"\"did\":\"did:web:other\",",
    b"\"ops\":[],",
    b"\"ops\":{},",
    b"\"$type\":\"blob\",",
    b"\"py_type\":\"blob\",",
    b"\"$type\":7,",
    b"\"ref\":{\"$link\":\"bafkreib\"},",
    b"\"ref\":\"0155122000\",",
    b"\"ref\":{\"code\":85,\"version\":1,\"multihash\":{\"code\":18,\"size\":32,\"digest\":{\"0\":256,\"x\":-1}}},",
    b"\"cid\":{\"/\":\"bafy\"},",
    b"\"$serde_json::private::Number\":\"1],[\",",
    b"\"$serde_json::private::RawValue\":\"{\",",
    b"\"createdAt\":\"99999-12-31T23:59:60.999999999999+99:99\",",
    b"\"created_at\":\"0000-00-00\",",
    b"\"subject\":{\"uri\":\"at://\",\"cid\":null},",
    b"\"reply\":{\"root\":{},\"parent\":[]},",
    b"\"facets\":[{\"features\":[{\"did\":7}],\"index\":{\"byteStart\":-1,\"byteEnd\":1e99}}],",
    b"\"langs\":\"en\",",
    b"\"path\":\"app.bsky.feed.post/\",",
    b"\"path\":\"//////\",",
    b"\"action\":\"create\",",
];

/// What a field of any other type may hold.
const VALUES: &[&str] = &[
    "null",
    "false",
    "0",
    "-7",
    "1e308",
    "18446744073709551616",
    r#""""#,
    r#""\u0000""#,
    r#""did:plc:other""#,
    r#""at://did:plc:other/app.bsky.feed.post/1""#,
    r#""2026-01-02T03:04:05+25:61""#,
    r#""0155122000""#,
    r#""app.bsky.graph.follow/1""#,
    r#""app.bsky.actor.profile/self""#,
    "[]",
    "[null]",
    "[[[[[[]]]]]]",
    r#"["en","en",7]"#,
    "{}",
    r#"{"$type":"blob"}"#,
    r#"{"$type":"blob","ref":{"$link":"bafkreib"},"size":-1}"#,
    r#"{"py_type":"blob","ref":"01551220"}"#,
    r#"{"code":85,"version":1,"multihash":{"code":18,"size":32,"digest":[1,2,300]}}"#,
    r#"{"uri":"at://did:plc:other/app.bsky.feed.post/1","cid":"bafy"}"#,
    r#"{"$type":"app.bsky.embed.recordWithMedia","record":{"record":{}},"media":{"$type":"app.bsky.embed.images","images":[{}]}}"#,
    r#"{"byteStart":5,"byteEnd":1,"features":[{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:other"}]}"#,
];

pub(crate) struct Mutator {
    rng: Rng,
    corpus: Vec<(String, String)>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, corpus: Vec<(String, String)>) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            corpus,
        }
    }

    /// The next entry's type and data.
    pub(crate) fn input(&mut self) -> (&'static [u8], Vec<u8>) {
        let n = self.rng.usize(..self.corpus.len());
        let (kind, data) = &self.corpus[n];
        let kind: &'static [u8] = match (self.rng.u8(..), kind.as_str()) {
            (0, _) => b"account",
            (1, _) => b"identity",
            (2, _) => b"no type",
            (_, "commit") => b"commit",
            (_, "identity") => b"identity",
            _ => b"account",
        };
        let mut data = match self.rng.bool() {
            true => Self::with_other_values(data, &mut self.rng).into_bytes(),
            false => data.clone().into_bytes(),
        };
        for _ in 0..self.rng.usize(0..=2) {
            self.mutate(&mut data);
        }
        data.truncate(MAX_LEN);
        (kind, data)
    }

    /// The same with a few values exchanged for others, so that it is JSON still.
    fn with_other_values(data: &str, rng: &mut Rng) -> String {
        let mut tree: Value = serde_json::from_str(data).expect("the corpus is JSON");
        for _ in 0..rng.usize(1..=4) {
            let other = VALUES[rng.usize(..VALUES.len())];
            let other: Value = serde_json::from_str(other).expect("a value in JSON");
            *any_value(&mut tree, rng) = other;
        }
        tree.to_string()
    }

    fn mutate(&mut self, data: &mut Vec<u8>) {
        match self.rng.u8(0..9) {
            0 => {
                if let Some(at) = self.place(data) {
                    data[at] ^= 1 << self.rng.u8(0..8);
                }
            }
            1 => {
                let range = self.range(data, 40);
                data.drain(range);
            }
            2 => {
                let range = self.range(data, 400);
                let copy = data[range.clone()].to_vec();
                data.splice(range.end..range.end, copy);
            }
            3 => data.truncate(self.rng.usize(..=data.len())),
            4 => {
                let at = self.rng.usize(..=data.len());
                data.splice(at..at, self.token().iter().copied());
            }
            5 => {
                let other = self.corpus[self.rng.usize(..self.corpus.len())].1.as_bytes();
                let from = self.rng.usize(..other.len());
                let part = other[from..].iter().take(self.rng.usize(..300)).copied();
                let part: Vec<u8> = part.collect();
                let range = self.range(data, 300);
                data.splice(range, part);
            }
            // A member before a name, often one that is there already.
            6 => {
                if let Some(at) = self.after(data, b"{,") {
                    data.splice(at..at, self.token().iter().copied());
                }
            }
            // Another value after a colon.
            7 => {
                if let Some(at) = self.after(data, b":[") {
                    let end = data[at..].iter().position(|byte| b",}]".contains(byte));
                    let end = end.map_or(data.len(), |length| at + length);
                    data.splice(at..end, self.token().iter().copied());
                }
            }
            _ => {
                let depth = self.rng.usize(1..3000);
                let at = self.rng.usize(..=data.len());
                data.splice(at..at, b"[{\"a\":".iter().copied().cycle().take(depth));
            }
        }
    }

    fn token(&mut self) -> &'static [u8] {
        TOKENS[self.rng.usize(..TOKENS.len())]
    }

    fn place(&mut self, data: &[u8]) -> Option<usize> {
        (!data.is_empty()).then(|| self.rng.usize(..data.len()))
    }

    fn range(&mut self, data: &[u8], max_len: usize) -> Range<usize> {
        let start = self.rng.usize(..=data.len());
        let len = self.rng.usize(..=max_len).min(data.len() - start);
        start..start + len
    }

    /// Just behind one of these bytes.
    fn after(&mut self, data: &[u8], bytes: &[u8]) -> Option<usize> {
        let from = self.place(data)?;
        let found = data[from..].iter().position(|byte| bytes.contains(byte))?;
        Some(from + found + 1)
    }
}

/// A value somewhere in the tree.
fn any_value<'a>(tree: &'a mut Value, rng: &mut Rng) -> &'a mut Value {
    let n_below = match &*tree {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    if n_below == 0 || rng.u8(0..12) == 0 {
        return tree;
    }
    let below = rng.usize(..n_below);
    match tree {
        Value::Array(items) => any_value(&mut items[below], rng),
        Value::Object(members) => any_value(members.values_mut().nth(below).expect("counted"), rng),
        _ => unreachable!("nothing is below a plain value"),
    }
}
