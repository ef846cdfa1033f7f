//! Dates of records, as stored in PostgreSQL's `timestamp` columns.
//!
//! Owns two rules: which texts are dates, and what replaces a date that is missing or in the future.

use std::borrow::Cow;

use chrono::DateTime;

use crate::entry::EntryId;
use crate::micros::Micros;

const SECOND: i64 = 1_000_000;

/// How much later than its entry a record may be dated. Clocks differ, and the AppView's other workers allow the same.
const AHEAD: i64 = 5 * 60 * SECOND;

/// 2020-01-01 in milliseconds. The network is younger, so an entry ID with an earlier time does not come from a clock.
const YEAR_2020_MS: i64 = 1_577_836_800_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Parses a record's date. The text must be in RFC 3339 format; an offset is converted. Without a time zone the text
/// is UTC, a date alone means its midnight, and digits beyond microseconds are cut off.
pub fn parse(text: &str) -> Option<Micros> {
    // chrono also accepts the Unicode minus sign, which RFC 3339 does not allow.
    let text = cut(text).filter(|text| text.is_ascii())?;
    let instant = DateTime::parse_from_rfc3339(&text)
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")))
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")))
        .ok()?;
    let micros = instant.timestamp_micros();
    (micros >= FIRST).then_some(Micros(micros))
}

/// The maximum length of a date in bytes, unless it has more fractional digits than any clock provides.
const LONGEST: usize = 64;

/// Cuts excess digits off the fraction of a second. `None` if the text is long for another reason and therefore not a
/// date.
fn cut(text: &str) -> Option<Cow<'_, str>> {
    if text.len() <= LONGEST {
        return Some(Cow::Borrowed(text));
    }
    let (seconds, rest) = text.split_once('.')?;
    let zone = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let digits = rest.get(..6)?;
    let is_short = seconds.len() + zone.len() < LONGEST - digits.len();
    (is_short && rest.len() - zone.len() >= digits.len()).then(|| Cow::Owned(format!("{seconds}.{digits}{zone}")))
}

/// 0100-01-01. The AppView's readers parse the stored text with JavaScript, which takes the years 1–99 for years of
/// the 20th or 21st century, or for no date at all. A single such like makes the list of a post's likes fail for every
/// reader.
const FIRST: i64 = -59_011_459_200 * SECOND;

/// The date of a record in an entry of the time `entry`. It is the entry's time if the text is missing or not a date,
/// or if the date is more than five minutes later.
pub fn created_at(text: Option<&str>, entry: Micros) -> Micros {
    match text.and_then(parse) {
        Some(date) if date.0 <= entry.0.saturating_add(AHEAD) => date,
        _ => entry,
    }
}

/// The time of an entry, in whole milliseconds: the time in its ID, or the wall clock if the ID does not come from a
/// clock.
pub fn of_entry(id: EntryId, now_ms: i64) -> Micros {
    let times = YEAR_2020_MS..=now_ms.saturating_add(DAY_MS);
    let of_id = i64::try_from(id.ms).ok().filter(|ms| times.contains(ms));
    Micros::of_millis(of_id.unwrap_or(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(rfc3339: &str) -> Micros {
        Micros(DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_micros())
    }

    #[test]
    fn dates_are_parsed_as_rfc_3339() {
        for (text, same) in [
            ("2024-02-29T09:00:00+09:00", "2024-02-29T00:00:00Z"),
            ("2024-02-29T09:00:00.1234567Z", "2024-02-29T09:00:00.123456Z"),
            ("2024-02-29T09:00:00.5", "2024-02-29T09:00:00.5Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2024-02-29t09:00:00z", "2024-02-29T09:00:00Z"),
            ("1024-01-01T00:00:00Z", "1024-01-01T00:00:00Z"),
            (
                "2024-02-29T09:00:00.12345678901234567890123456789012345678901234567890+09:00",
                "2024-02-29T00:00:00.123456Z",
            ),
            ("0100-01-01T00:00:00Z", "0100-01-01T00:00:00Z"),
            ("0099-12-31T23:00:00-01:00", "0100-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text), Some(micros(same)), "{text}");
        }
    }

    #[test]
    fn all_else_is_missing() {
        for text in [
            "",
            "now",
            "2023-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "0001-01-01",
            "0031-01-01T00:00:00",
            "0099-12-31T23:59:59.999999Z",
            "+0099-01-01T00:00:00Z",
            "-0099-01-01T00:00:00Z",
            "+002024-01-01T00:00:00Z",
            "99-01-01T00:00:00Z",
            "0100-01-01T00:00:00+00:01",
            "2024-01-01T25:00:00Z",
            "2024-01-01T00:00:00\u{2212}02:00",
            "2024-01-01T00:00:00.1é2345678901234567890123456789012345678901234567890Z",
            "2024-01-01T00:00:00Z                                                        ",
            "Tue, 1 Jul 2003 10:52:37 +0200",
            "20240101",
            "2024-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_ahead_of_its_entry_by_more_than_five_minutes_becomes_the_entrys() {
        let entry = micros("2026-01-01T00:00:00Z");
        let within = "2026-01-01T00:05:00Z";
        assert_eq!(created_at(Some(within), entry), micros(within));
        assert_eq!(created_at(Some("2026-01-01T00:05:00.001Z"), entry), entry);
        assert_eq!(created_at(Some("3024-01-01T00:00:00Z"), entry), entry);
        assert_eq!(created_at(None, entry), entry);
    }

    #[test]
    fn an_implausible_id_is_not_used_as_a_time() {
        const NOW: u64 = 1_780_000_000_000;
        const DAY: u64 = 24 * 60 * 60 * 1000;
        let at = |ms| of_entry(EntryId { ms, n: 0 }, NOW as i64).millis() as u64;
        for ms in [1_577_836_800_000, NOW - 1000, NOW + DAY] {
            assert_eq!(at(ms), ms);
        }
        for ms in [0, 1, 1_577_836_799_999, NOW + DAY + 1, u64::MAX] {
            assert_eq!(at(ms), NOW, "{ms}");
        }
    }
}
