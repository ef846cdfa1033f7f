//! Numbers, durations and sizes as people read them, and words as a shell reads them. Pure.

use std::collections::BTreeMap;

/// How many characters are shown of a text that another program wrote.
pub const LONGEST: usize = 300;

/// The numbers that are not zero, each with its name.
pub fn list(numbers: &BTreeMap<String, u64>) -> String {
    let shown = numbers.iter().filter(|(_, number)| **number > 0);
    let shown: Vec<String> = shown
        .map(|(name, number)| format!("{} {}", name.replace('_', " "), grouped(*number)))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The number with a comma between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in the largest unit of which it has at least two.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number of bytes, with two digits or more.
pub fn bytes(number: f64) -> String {
    let units = [("KiB", 1e3), ("MiB", 1e3), ("GiB", 1e3), ("TiB", f64::INFINITY)];
    let mut number = number / 1024.0;
    for (unit, limit) in units {
        if number.abs() < limit {
            let digits = if number.abs() < 9.95 { 1 } else { 0 };
            return format!("{number:.digits$} {unit}");
        }
        number /= 1024.0;
    }
    format!("{number:.0} PiB")
}

/// A word in a form that a shell does not split or change.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/%@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_with_two_digits_or_more() {
        let gib = f64::from(1 << 30);
        assert_eq!(
            [0.0, 2048.0, 1.77 * gib, 99.6 * gib, 5000.0 * gib, -gib].map(bytes),
            ["0.0 KiB", "2.0 KiB", "1.8 GiB", "100 GiB", "4.9 TiB", "-1.0 GiB"]
        );
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_unit() {
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_800].map(duration),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn a_word_that_a_shell_would_change_is_quoted() {
        assert_eq!(quoted("firehose:worker:losses:g%3A1"), "firehose:worker:losses:g%3A1");
        assert_eq!(quoted("it's a *"), "'it'\\''s a *'");
        assert_eq!(quoted(""), "''");
    }
}
