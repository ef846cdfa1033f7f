//! Reads CIDs in every form that producers send, as the text that the AppView stores.
//!
//! Owns these forms. If a record refers to another record, the CID's text is not validated. If it refers to a blob,
//! the CID is validated: the AppView's clients load the blob by its CID, and a URL in its place would make them
//! contact a third party.

use std::borrow::Cow;
use std::sync::LazyLock;

use data_encoding::{Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};

use super::json::Json;

/// Multibase's base32: lower case, without padding.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("32 symbols make an encoding")
});

const VERSION_1: u8 = 0x01;
const RAW: u8 = 0x55;
const SHA2_256: u8 = 0x12;
const SHA2_256_LEN: u8 = 0x20;

/// The CID's text, whatever its form: text, hex of its bytes, `{"$link"}`, `{"/"}`, `{"ref"}`, an old blob's
/// `{"cid"}`, or the parsed `{code, version, multihash}`.
pub fn text<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    // Three levels: a blob, its ref, and a link with the bytes. Deeper nesting is not searched.
    text_within(value, 3)
}

/// The CID of a blob, whatever the form of the blob. A plain text must be a valid CID.
pub fn of_blob<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    match value {
        Json::String(_) => text(value).filter(|text| is_cid(text)),
        _ => of_link(value),
    }
}

/// The CID to which a blob links. The form of a link already marks it as a CID, so it is enough that it cannot be a
/// URL.
pub fn of_link<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    text(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether the text is a CID: version 0, or version 1 in one of the bases in use.
fn is_cid(text: &str) -> bool {
    let bytes = match text.split_at_checked(1) {
        Some(("b", digits)) => BASE32.decode(digits.as_bytes()).ok(),
        Some(("f", digits)) => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
        Some(("z", digits)) => from_base58(digits),
        _ => from_base58(text).filter(|bytes| bytes.first() == Some(&SHA2_256)),
    };
    match bytes.as_deref() {
        Some([VERSION_1, rest @ ..]) => is_cid_body(rest),
        Some([SHA2_256, SHA2_256_LEN, digest @ ..]) => digest.len() == usize::from(SHA2_256_LEN),
        _ => false,
    }
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// The maximum length of a base58 CID. Decoding takes time proportional to the square of the length.
const BASE58_MAX: usize = 128;

fn from_base58(text: &str) -> Option<Vec<u8>> {
    if text.len() > BASE58_MAX {
        return None;
    }
    // In reverse order: the last byte comes first.
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for digit in text.bytes() {
        let mut carry = BASE58.iter().position(|symbol| *symbol == digit)?;
        for byte in &mut bytes {
            carry += usize::from(*byte) * BASE58.len();
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    bytes.reverse();
    Some(bytes)
}

fn text_within<'a>(value: &Json<'a>, levels: usize) -> Option<Cow<'a, str>> {
    match value {
        Json::String(text) => from_text(text),
        // A member with one of these names may hold something else next to the parts of a CID.
        Json::Object(_) if levels > 0 => ["$link", "/", "ref", "cid"]
            .iter()
            .find_map(|name| text_within(value.get(name)?, levels - 1))
            .or_else(|| from_parts(value)),
        _ => None,
    }
}

fn from_text<'a>(text: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    if text.is_empty() || text == "undefined" {
        return None;
    }
    Some(match from_hex(text) {
        Some(cid) => Cow::Owned(cid),
        None => text.clone(),
    })
}

/// Reads a link as hex of its bytes. Links on this network are CIDv1 of raw bytes or of a record, hashed with SHA-256.
pub fn from_link_hex(text: &str) -> Option<String> {
    let is_link = text.len() == 72 && (text.starts_with("01551220") || text.starts_with("01711220"));
    if !is_link {
        return None;
    }
    Some(encode(&HEXLOWER.decode(text.as_bytes()).ok()?))
}

/// Reads hex of a binary CIDv1, with or without multibase's prefix `f`. Also reads hex of a bare SHA-256 multihash, as
/// the AppView does: as the hash of raw bytes.
fn from_hex(text: &str) -> Option<String> {
    let digits = text.strip_prefix('f').unwrap_or(text);
    if !digits.starts_with("01") && !digits.starts_with("1220") {
        return None;
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    match bytes.as_slice() {
        [VERSION_1, rest @ ..] if is_cid_body(rest) => Some(encode(&bytes)),
        [SHA2_256, SHA2_256_LEN, digest @ ..] if digest.len() == usize::from(SHA2_256_LEN) => {
            Some(encode(&[&[VERSION_1, RAW], bytes.as_slice()].concat()))
        }
        _ => None,
    }
}

/// Whether the bytes after a CID's version are a codec and a multihash of exactly the length it states.
fn is_cid_body(bytes: &[u8]) -> bool {
    let Some((_codec, rest)) = varint(bytes) else {
        return false;
    };
    let Some((_hash, rest)) = varint(rest) else {
        return false;
    };
    matches!(varint(rest), Some((len, digest)) if len == digest.len() as u64 && len > 0)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn encode(bytes: &[u8]) -> String {
    format!("b{}", BASE32.encode(bytes))
}

/// Appends the text of a binary CID.
pub fn push_text(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    let start = out.len();
    out.resize(start + BASE32.encode_len(bytes.len()), 0);
    BASE32.encode_mut(bytes, &mut out[start..]);
}

/// Rebuilds a CID from its parts. Version 0 is refused: its text has another form, and the network does not use it.
fn from_parts<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    let version = number(value.get("version")).unwrap_or(u64::from(VERSION_1));
    if version != u64::from(VERSION_1) {
        return None;
    }
    let multihash = value.get("multihash")?;
    let digest = bytes(multihash.get("digest")?)?;
    let mut cid = Vec::with_capacity(digest.len() + 8);
    push_varint(version, &mut cid);
    push_varint(number(value.get("code"))?, &mut cid);
    push_varint(number(multihash.get("code"))?, &mut cid);
    push_varint(digest.len() as u64, &mut cid);
    cid.extend_from_slice(&digest);
    Some(Cow::Owned(encode(&cid)))
}

fn number(value: Option<&Json>) -> Option<u64> {
    match value? {
        Json::Integer(number) => u64::try_from(*number).ok(),
        Json::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Reads bytes as JavaScript serialises them: an array, or an object with the indexes as keys.
fn bytes(value: &Json) -> Option<Vec<u8>> {
    let byte = |value: &Json| number(Some(value)).and_then(|number| u8::try_from(number).ok());
    let bytes: Vec<u8> = match value {
        Json::Array(items) => items.iter().map(byte).collect::<Option<_>>()?,
        Json::Object(members) => {
            let mut indexed = members
                .iter()
                .map(|(index, value)| Some((index.parse::<usize>().ok()?, byte(value)?)))
                .collect::<Option<Vec<_>>>()?;
            indexed.sort_unstable();
            indexed.into_iter().map(|(_, byte)| byte).collect()
        }
        _ => return None,
    };
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "bafkreiaaaeambqibia4ewedqbalicqmcpqacaaabaibqibaeaucagcainq";

    fn hex() -> String {
        let bytes = BASE32.decode(&TEXT.as_bytes()[1..]).unwrap();
        data_encoding::HEXLOWER.encode(&bytes)
    }

    fn read(json: &str) -> Option<String> {
        text(&super::super::json::parse(json).unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn every_form_ends_as_the_same_text() {
        let hex = hex();
        let digest: Vec<u8> = data_encoding::HEXLOWER.decode(&hex.as_bytes()[8..]).unwrap();
        let object: Vec<String> = digest.iter().enumerate().map(|(i, b)| format!("\"{i}\":{b}")).collect();
        let (multihash, object) = (&hex[4..], object.join(","));
        for form in [
            format!("{TEXT:?}"),
            format!("{hex:?}"),
            format!("\"f{hex}\""),
            format!("{multihash:?}"),
            format!("{{\"$link\":{TEXT:?}}}"),
            format!("{{\"/\":{hex:?}}}"),
            format!("{{\"ref\":{{\"$link\":{TEXT:?}}},\"size\":9}}"),
            format!("{{\"cid\":{TEXT:?},\"mimeType\":\"image/png\"}}"),
            format!("{{\"code\":85,\"version\":1,\"multihash\":{{\"code\":18,\"size\":32,\"digest\":{digest:?}}}}}"),
            format!("{{\"code\":85,\"multihash\":{{\"code\":18,\"digest\":{{{object}}}}}}}"),
            format!("{{\"/\":{{{object}}},\"code\":85,\"multihash\":{{\"code\":18,\"digest\":{digest:?}}}}}"),
        ] {
            assert_eq!(read(&form).as_deref(), Some(TEXT), "{form}");
        }
    }

    #[test]
    fn only_a_cid_is_one_of_a_blob() {
        let of_blob = |json: &str| of_blob(&super::super::json::parse(json).unwrap()).map(Cow::into_owned);
        for cid in [
            TEXT,
            "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA",
        ] {
            assert_eq!(of_blob(&format!("{cid:?}")).as_deref(), Some(cid));
        }
        for form in [hex(), format!("f{}", hex()), hex()[4..].to_owned()] {
            assert_eq!(of_blob(&format!("{form:?}")).as_deref(), Some(TEXT), "{form}");
        }
        let longer = "z".repeat(1_000_000);
        for other in [
            "http://example.org/a.png",
            "https://example.org/a.png",
            "//example.org",
            "data:image/png;base64,AAAA",
            "bafkrei",
            &TEXT[..TEXT.len() - 2],
            &TEXT.to_uppercase(),
            "bafkreihttp",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbd",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbd0",
            "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93b",
            "picture",
            "0155",
            &longer,
        ] {
            assert_eq!(of_blob(&format!("{other:?}")), None, "{other:.80}");
        }
        for address in [
            r#"{"$link":"https://example.org/a.png"}"#,
            r#"{"/":"https://example.org/a.png"}"#,
            r#"{"$type":"blob","ref":"https://example.org/a.png"}"#,
            r#"{"ref":{"$link":"javascript:alert(1)"}}"#,
            r#"{"cid":"//example.org","mimeType":"image/png"}"#,
        ] {
            assert_eq!(of_blob(address), None, "{address}");
        }
    }

    #[test]
    fn invalid_cids_are_dropped_and_plain_text_is_kept() {
        for none in [
            "\"\"",
            "\"undefined\"",
            "null",
            "7",
            "{}",
            r#"{"multihash":{"digest":[300]}}"#,
            r#"{"code":112,"version":0,"multihash":{"code":18,"digest":[1,2]}}"#,
            r#"{"/":{"0":1},"ref":7}"#,
            r#"{"ref":{"ref":{"ref":{"ref":"bafkrei"}}}}"#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        for kept in [
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "0155",
            "01zz",
            "1220ab",
        ] {
            assert_eq!(read(&format!("{kept:?}")).as_deref(), Some(kept));
        }
    }
}
