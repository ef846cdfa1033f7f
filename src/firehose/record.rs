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
    push_utf8(text.as_bytes(), out);
}

/// Appends UTF-8 as a JSON string.
fn push_utf8(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(n_plain) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        out.extend_from_slice(&rest[..n_plain]);
        let byte = rest[n_plain];
        match ESCAPES[usize::from(byte)] {
            b'u' => {
                let digit = |number: u8| b"0123456789abcdef"[usize::from(number)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = &rest[n_plain + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The letter behind the backslash by which a byte is escaped; 0 for a byte that is written as it is.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0c] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

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
    fn key(&mut self, key: &[u8]) {
        if self.has_room(key.len()) {
            push_utf8(key, self.out);
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

#[cfg(test)]
mod tests {
    use ipld_core::cid::Cid;
    use ipld_core::ipld;
    use ipld_core::ipld::Ipld;

    use super::*;

    fn encode(value: &Ipld) -> Vec<u8> {
        serde_ipld_dagcbor::to_vec(value).unwrap()
    }

    fn json(block: &[u8]) -> Result<String, Refused> {
        let mut out = Vec::new();
        write(block, &mut out, usize::MAX)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_kind_of_item_has_its_form_in_json() {
        let cid: Cid = "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"
            .parse()
            .unwrap();
        let record = ipld!({
            "a": [null, true, false, [], {}],
            "b": Ipld::Bytes(vec![0xfb, 0xff]),
            "c": Ipld::Link(cid),
            "d": [0, 23, 24, -1, -25, u64::MAX, i64::MIN],
            "": "é😀\u{7f}/",
        });
        assert_eq!(
            json(&encode(&record)).unwrap(),
            concat!(
                r#"{"":"é😀"#,
                "\u{7f}",
                r#"/","a":[null,true,false,[],{}],"b":{"$bytes":"+/8"},"#,
                r#""c":{"$link":"bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"},"#,
                r#""d":[0,23,24,-1,-25,18446744073709551615,-9223372036854775808]}"#
            )
        );
    }

    #[test]
    fn integers_keep_all_their_digits() {
        let least = [[0x3b].as_slice(), &[0xff; 8]].concat();
        assert_eq!(json(&least).unwrap(), "-18446744073709551616");
        let greatest = [[0x1b].as_slice(), &[0xff; 8]].concat();
        assert_eq!(json(&greatest).unwrap(), "18446744073709551615");
    }

    #[test]
    fn quotes_backslashes_and_control_characters_are_escaped_and_nothing_else() {
        let all: String = (0..=0xff_u8).map(char::from).collect();
        let written = json(&encode(&Ipld::String(all.clone()))).unwrap();
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), all);
        let escaped = written.matches('\\').count() - 1; // the backslash itself takes two
        assert_eq!(escaped, 32 + 2, "{written}");
        assert!(written.contains(r"\u0000"), "{written}");
    }

    #[test]
    fn floats_are_passed_on_in_their_shortest_form_and_counted() {
        let floats = [0.1, 1.0, 1e300, 5e-324, f64::MAX];
        let record = Ipld::List(floats.into_iter().map(Ipld::Float).collect());
        let mut out = Vec::new();
        assert_eq!(write(&encode(&record), &mut out, usize::MAX), Ok(5));
        let written = String::from_utf8(out).unwrap();
        assert_eq!(written, "[0.1,1.0,1e+300,5e-324,1.7976931348623157e+308]");
        assert_eq!(json(&[0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0]).unwrap(), "-0.0");
    }

    #[test]
    fn a_record_ends_with_its_block() {
        assert_eq!(json(&[0xa0, 0x00]), Err(Refused::Invalid(Fault::TrailingBytes)));
        assert_eq!(json(&[]), Err(Refused::Invalid(Fault::Truncated)));
    }

    #[test]
    fn a_record_that_becomes_too_large_is_refused() {
        let record = encode(&ipld!({"text": "\u{1}".repeat(1000)}));
        let refused = |len_max| write(&record, &mut Vec::new(), len_max);
        assert_eq!(refused(6011), Ok(0));
        assert_eq!(refused(6010), Err(Refused::TooLarge));
        let mut out = Vec::new();
        assert_eq!(write(&record, &mut out, 100), Err(Refused::TooLarge));
        assert!(
            out.len() < 100,
            "more was written than there was room for: {}",
            out.len()
        );
    }

    #[test]
    fn a_record_that_is_both_too_large_and_invalid_is_invalid() {
        let record = [encode(&ipld!({"text": "x".repeat(1000)})), vec![0]].concat();
        assert_eq!(
            write(&record, &mut Vec::new(), 10),
            Err(Refused::Invalid(Fault::TrailingBytes))
        );
    }
}
