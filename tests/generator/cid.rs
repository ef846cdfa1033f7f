//! CIDs in the network's canonical text form: version 1, sha2-256, base32 in lower case, 59 characters.
//!
//! The digests are random, not SHA-256 of anything: a program that stores CIDs cannot tell, and no hash function is
//! needed.

use data_encoding::BASE32_NOPAD;

/// What a CID's content is: a record or a blob.
#[derive(Clone, Copy)]
pub(crate) enum Codec {
    /// `bafyrei…`
    DagCbor = 0x71,
    /// `bafkrei…`
    Raw = 0x55,
}

/// The text of the CID with this digest.
pub(crate) fn cid(codec: Codec, digest: &[u8; 32]) -> String {
    let mut text = String::with_capacity(59);
    push_cid(&mut text, codec, digest);
    text
}

pub(crate) fn push_cid(out: &mut String, codec: Codec, digest: &[u8; 32]) {
    const SHA2_256: u8 = 0x12;
    let mut bytes = [0; 36];
    bytes[..4].copy_from_slice(&[1, codec as u8, SHA2_256, 32]);
    bytes[4..].copy_from_slice(digest);
    let start = out.len();
    out.push('b');
    BASE32_NOPAD.encode_append(&bytes, out);
    out[start..].make_ascii_lowercase();
}

/// 32 bytes that follow from the parts, and differ where the parts do.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    digest_of_numbers(state, 0, 0)
}

/// The same from numbers, quickly.
pub(crate) fn digest_of_numbers(a: u64, b: u64, c: u64) -> [u8; 32] {
    let mut state = mix(mix(mix(a) ^ b) ^ c);
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        state = mix(state);
        chunk.copy_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// One step of splitmix64: every bit of the input moves every bit of the output.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
