//! CIDs in every form that producers send, as the text that the AppView stores.
//!
//! Owns these forms. A CID's own validity is not judged: a text that has none of the binary forms stays as it is.

use std::borrow::Cow;
use std::sync::LazyLock;

use data_encoding::{Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};

use super::json::Json;

/// Multibase's base32: lower case, no padding.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("32 symbols make an encoding")
});

const VERSION_1: u8 = 0x01;
const RAW: u8 = 0x55;
const SHA2_256: u8 = 0x12;
const SHA2_256_LEN: u8 = 0x20;

/// The CID's text, whatever form it came in: text, hex of its bytes, `{"$link"}`, `{"/"}`, `{"ref"}`, the old blob's
/// `{"cid"}`, or the parsed `{code, version, multihash}`.
pub fn text<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    // A blob, its ref, and bytes as a link in it; what somebody nests deeper is not worth a look at every level.
    text_within(value, 3)
}

fn text_within<'a>(value: &Json<'a>, levels: usize) -> Option<Cow<'a, str>> {
    match value {
        Json::String(text) => from_text(text),
        // A member of these names may hold something else beside a CID's parts.
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

/// Reads hex of the bytes that a link has on this network: a CIDv1 of raw bytes or of a record, hashed with SHA-256.
pub fn from_link_hex(text: &str) -> Option<String> {
    let is_link = text.len() == 72 && (text.starts_with("01551220") || text.starts_with("01711220"));
    if !is_link {
        return None;
    }
    Some(encode(&HEXLOWER.decode(text.as_bytes()).ok()?))
}

/// Reads hex of a binary CIDv1, with multibase's `f` before it or not, and hex of a bare SHA-256 multihash, which is
/// how the AppView itself would read it: as the hash of raw bytes.
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

/// Whether the bytes after a CID's version are a codec and a multihash of just the length it says.
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

/// Rebuilds a CID that came as its parts. The network has none of version 0, whose text is another.
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
        Json::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Bytes as JavaScript writes them: an array, or an object with the indexes as its keys.
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
    fn what_is_no_cid_is_none_and_other_text_stays() {
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
