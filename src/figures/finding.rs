//! What a check finds, and what to do about it.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// The worker and the consumer run, but something needs attention.
    Warn,
    /// One of them cannot run, or not for long.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was checked.
    pub what: &'static str,
    pub found: String,
    /// What to do; empty if there is nothing to do.
    pub remedy: String,
}

impl Finding {
    pub fn new(level: Level, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            level,
            what,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    /// Nothing is wrong.
    pub fn ok(what: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, what, found, "")
    }

    /// Nothing is wrong, and this is worth knowing.
    pub fn hint(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, what, found, remedy)
    }

    pub fn warn(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Level::Warn, what, found, remedy)
    }

    pub fn fail(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Level::Fail, what, found, remedy)
    }
}
