//! Writes a record as lexicon JSON: from the bytes of its block to text, without a tree between them.
//!
//! Owns what each item of the data model is in JSON. Members keep their order, integers all their digits; only `"`, `\`
//! and control characters are escaped. Floats do not belong to the data model, but records on the network contain them:
//! they are passed on and counted.

use data_encoding::BASE64_NOPAD;

use super::cbor::{Container, Fault, Item, Reader, Sink};
use crate::decode::cid;

/// Why a record is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Invalid(Fault),
    TooLarge,
}

/// Appends the record of a block to `out`, which may grow to about `len_max` bytes, and returns how many floats it
/// contains. If the record is refused, `out` has an arbitrary end.
pub fn write(block: &[u8], out: &mut Vec<u8>, len_max: usize) -> Result<u32, Refused> {
    let mut reader = Reader::new(block);
    let mut json = Json {
        out,
        len_max,
        floats: 0,
        is_full: false,
    };
    reader.walk(&mut json).map_err(Refused::Invalid)?;
    reader.end().map_err(Refused::Invalid)?;
    match json.is_full || json.out.len() > len_max {
        true => Err(Refused::TooLarge),
        false => Ok(json.floats),
    }
}

/// Appends a text as a JSON string.
pub fn push_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every string");
}

struct Json<'o> {
    out: &'o mut Vec<u8>,
    len_max: usize,
    floats: u32,
    /// Nothing more is written. The rest of the record is still checked.
    is_full: bool,
}

impl Json<'_> {
    /// Whether this many bytes may still be written. Escapes may take more than that, which is found at the end.
    #[inline]
    fn has_room(&mut self, len: usize) -> bool {
        self.is_full |= self.out.len() + len > self.len_max;
        !self.is_full
    }

    fn number(&mut self, number: impl serde::Serialize) {
        serde_json::to_writer(&mut *self.out, &number).expect("a Vec takes every number");
    }
}

impl Sink for Json<'_> {
    #[inline]
    fn scalar(&mut self, item: Item<'_>) {
        let len = match item {
            Item::Text(text) => text.len(),
            Item::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        if !self.has_room(len) {
            return;
        }
        match item {
            Item::Text(text) => push_string(text, self.out),
            Item::Bytes(bytes) => {
                self.out.extend_from_slice(b"{\"$bytes\":\"");
                let start = self.out.len();
                self.out.resize(start + BASE64_NOPAD.encode_len(bytes.len()), 0);
                BASE64_NOPAD.encode_mut(bytes, &mut self.out[start..]);
                self.out.extend_from_slice(b"\"}");
            }
            Item::Link(bytes) => {
                self.out.extend_from_slice(b"{\"$link\":\"");
                cid::push_text(bytes, self.out);
                self.out.extend_from_slice(b"\"}");
            }
            Item::Unsigned(number) => self.number(number),
            Item::Negative(number) => self.number(-1 - i128::from(number)),
            Item::Float(number) => {
                self.floats += 1;
                self.number(number);
            }
            Item::Bool(true) => self.out.extend_from_slice(b"true"),
            Item::Bool(false) => self.out.extend_from_slice(b"false"),
            Item::Null => self.out.extend_from_slice(b"null"),
            Item::Array(_) | Item::Map(_) => {}
        }
    }

    #[inline]
    fn key(&mut self, key: &str) {
        if self.has_room(key.len()) {
            push_string(key, self.out);
            self.out.push(b':');
        }
    }

    #[inline]
    fn open(&mut self, container: Container) {
        self.out.push(match container {
            Container::Array => b'[',
            Container::Map => b'{',
        });
    }

    #[inline]
    fn next(&mut self) {
        self.out.push(b',');
    }

    #[inline]
    fn close(&mut self, container: Container) {
        self.out.push(match container {
            Container::Array => b']',
            Container::Map => b'}',
        });
    }
}
