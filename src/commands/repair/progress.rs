//! The progress of a repair, stored after each slice.

use serde::{Deserialize, Serialize};

use super::report::Report;
use super::{Key, STEPS};

/// The end of the last finished slice.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub step: String,
    pub after: Key,
}

impl Place {
    pub fn first() -> Place {
        let step = &STEPS[0];
        Place {
            step: step.name.to_owned(),
            after: step.first(),
        }
    }
}

/// The stored state.
#[derive(Deserialize)]
struct State {
    place: Place,
    report: Report,
}

/// The state to be stored, which borrows its values.
#[derive(Serialize)]
struct StateRef<'a> {
    place: &'a Place,
    report: &'a Report,
}

/// The state as text.
pub fn store(place: &Place, report: &Report) -> String {
    serde_json::to_string(&StateRef { place, report }).expect("names, texts and numbers are JSON")
}

/// Reads a stored state; `None` if another version has stored it.
pub fn read(state: &str) -> Option<(Place, Report)> {
    let State { place, report } = serde_json::from_str(state).ok()?;
    STEPS
        .iter()
        .any(|step| step.name == place.step)
        .then_some((place, report))
}
