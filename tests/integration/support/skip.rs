//! Tests that cannot run everywhere, and forms of tests that are not run every time.

use std::fmt::Display;
use std::io::Write;

/// Reports that a test, or a part of one, did not run: past the test harness, which shows nothing of a test that
/// passes.
///
/// # Panics
///
/// Where CI is `true`: there everything is installed and allowed, so that no test passes without having run.
pub(crate) fn skip(what: &str, reason: impl Display) {
    assert_ne!(
        std::env::var_os("CI"),
        Some("true".into()),
        "{what} cannot run: {reason}"
    );
    report(what, reason);
}

/// The same, where even CI need not have what is missing.
pub(crate) fn report(what: &str, reason: impl Display) {
    let line = format!("!! NOT RUN: {what}: {reason}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error takes a line");
}

/// Whether the slow forms are to run too, as `tests/run.sh --all` has them.
pub(crate) fn is_full() -> bool {
    std::env::var_os("FIREHOSE_TEST_ALL").is_some_and(|value| !value.is_empty())
}
