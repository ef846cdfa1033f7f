//! Identifiers and times as text: DIDs, handles, record keys, CIDs.
//!
//! Each follows from a few numbers (whose it is, when it was made), so nothing that was made up needs to be kept to be
//! named again.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _};

use super::cid::{Codec, digest_of_numbers, mix, push_cid};

/// A record that exists: whose it is and when it was made, in microseconds since 1970. Both name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) owner: u32,
    pub(crate) micros: u64,
}

/// The names of one made-up world, which differ by its seed.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) seed: u64,
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE32_SORTABLE: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

const FIRST_NAMES: [&str; 24] = [
    "alba", "bruno", "cleo", "dara", "emi", "finn", "gwen", "hiro", "ines", "jonas", "kaja", "luis", "mika", "nora",
    "otto", "pia", "quinn", "rosa", "sami", "taro", "ulla", "vera", "wanda", "yuki",
];
const LAST_NAMES: [&str; 16] = [
    "bakes", "codes", "draws", "makes", "reads", "rides", "sings", "writes", "birds", "cats", "maps", "music", "news",
    "plants", "stars", "trains",
];

impl Names {
    pub(crate) fn push_did(self, out: &mut String, user: u32) {
        out.push_str("did:plc:");
        let halves = [
            mix(self.seed ^ (u64::from(user) << 1)),
            mix(!self.seed ^ u64::from(user)),
        ];
        for half in halves {
            for n in 0..12 {
                out.push(char::from(BASE32[(half >> (5 * n) & 31) as usize]));
            }
        }
    }

    pub(crate) fn push_handle(self, out: &mut String, user: u32) {
        let bits = mix(self.seed ^ u64::from(user) ^ 0x5eed);
        let first = FIRST_NAMES[(bits % 24) as usize];
        let last = LAST_NAMES[(bits >> 8 & 15) as usize];
        let result = match bits >> 12 & 15 {
            0 => write!(out, "{first}-{last}{user}.example.com"),
            1 => write!(out, "{first}{user}.{last}.example"),
            _ => write!(out, "{first}{last}{user}.bsky.social"),
        };
        result.expect("a String takes everything");
    }

    /// A name as people show it.
    pub(crate) fn push_display_name(self, out: &mut String, user: u32, revision: u64) {
        let bits = mix(self.seed ^ u64::from(user) ^ revision);
        for (n, name) in [FIRST_NAMES[(bits % 24) as usize], LAST_NAMES[(bits >> 8 & 15) as usize]]
            .iter()
            .enumerate()
        {
            if n > 0 {
                out.push(' ');
            }
            out.push_str(&name[..1].to_ascii_uppercase());
            out.push_str(&name[1..]);
        }
        out.push_str([" 🌱", "", "", " ☕️", "", "", "", " (she/her)"][(bits >> 16 & 7) as usize]);
    }

    /// The CID of a record that was last written as `revision`.
    pub(crate) fn push_cid(self, out: &mut String, key: Key, revision: u64) {
        let digest = digest_of_numbers(self.seed ^ u64::from(key.owner), key.micros, revision);
        push_cid(out, Codec::DagCbor, &digest);
    }

    pub(crate) fn push_blob_cid(self, out: &mut String, number: u64) {
        push_cid(out, Codec::Raw, &digest_of_numbers(self.seed, number, 0xb10b));
    }

    pub(crate) fn push_uri(self, out: &mut String, collection: &str, key: Key) {
        out.push_str("at://");
        self.push_did(out, key.owner);
        out.push('/');
        out.push_str(collection);
        out.push('/');
        push_record_key(out, collection, key.micros);
    }
}

/// The record key: a TID, but for the collections that use another.
pub(crate) fn push_record_key(out: &mut String, collection: &str, micros: u64) {
    match collection {
        "app.bsky.actor.profile" | "app.bsky.labeler.service" | "app.bsky.actor.status" => out.push_str("self"),
        "app.bsky.feed.generator" => {
            let name = LAST_NAMES[(mix(micros) & 15) as usize];
            write!(out, "{name}-{:x}", micros & 0xf_ffff).expect("a String takes everything");
        }
        _ => push_tid(out, micros),
    }
}

/// 13 characters that sort by time, as clients make them: the microseconds and ten bits of the clock's own.
pub(crate) fn push_tid(out: &mut String, micros: u64) {
    let number = micros << 10 | (mix(micros) & 1023);
    for n in (0..13).rev() {
        out.push(char::from(BASE32_SORTABLE[(number >> (5 * n) & 31) as usize]));
    }
}

/// A time as clients write it: UTC, with milliseconds.
pub(crate) fn push_time(out: &mut String, micros: u64) {
    let millis = i64::try_from(micros / 1000).expect("a time before the year 292278");
    let time = DateTime::from_timestamp_millis(millis).expect("a time that a calendar has");
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        millis % 1000
    )
    .expect("a String takes everything");
}
