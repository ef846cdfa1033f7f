//! Decides where to begin from what Redis remembers. Pure.

use super::position::{Position, Remembered};
use crate::settings::consumer::Start;

/// A producer that saves its cursor every few seconds is at most so many events away from the stream's newest entry. A
/// greater distance means that the two count differently, as after a change of relay.
const NEAR: u64 = 600_000;

/// Where to begin, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Continue after the last event of this relay.
    After(Position),
    /// The position is another relay's, which counts differently: find the place by the time of the events.
    ByTime(Position),
    /// Another producer's position.
    TakeOver(Position),
    /// Redis holds no position.
    Fresh(Start),
}

/// Decides where to begin with `relay`. `is_alone` means that no other producer writes the cursor beside the consumer,
/// so that a cursor that differs from the state was moved by one that ran in between.
pub fn decide(remembered: &Remembered, relay: &str, start: Start, is_alone: bool) -> Begin {
    let own = remembered
        .relay
        .as_deref()
        .and_then(|last| Some((last, *remembered.relays.get(last)?)));
    let at = |seq, time_ms| Position {
        relay: relay.to_owned(),
        seq: Some(seq),
        time_ms,
    };
    if let Some((last, (seq, time_ms))) = own
        && (!is_alone || remembered.cursor == Some(seq))
    {
        return match last == relay {
            true => Begin::After(at(seq, time_ms)),
            false => Begin::ByTime(at(seq, time_ms)),
        };
    }
    let time_ms = remembered.newest_ms.unwrap_or_default();
    match (remembered.cursor, remembered.newest_seq) {
        (Some(cursor), Some(newest)) if newest.abs_diff(cursor) <= NEAR => Begin::TakeOver(at(newest, time_ms)),
        (Some(cursor), _) => Begin::TakeOver(at(cursor, time_ms)),
        (None, Some(newest)) => Begin::TakeOver(at(newest, time_ms)),
        (None, None) => Begin::Fresh(start),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn remembered(cursor: Option<u64>, state: Option<(&str, u64)>, newest_seq: Option<u64>) -> Remembered {
        Remembered {
            cursor,
            relay: state.map(|(relay, _)| relay.to_owned()),
            relays: state
                .map(|(relay, seq)| (relay.to_owned(), (seq, 9000)))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            newest_seq,
            newest_ms: newest_seq.map(|_| 5000),
        }
    }

    fn at(seq: u64, time_ms: u64) -> Position {
        Position {
            relay: "relay".to_owned(),
            seq: Some(seq),
            time_ms,
        }
    }

    #[test]
    fn the_position_is_the_own_one_then_another_producers_then_the_setting() {
        let own = Some(("relay", 700));
        for (remembered, begin) in [
            (remembered(Some(700), own, Some(690)), Begin::After(at(700, 9000))),
            // A producer that saves its cursor late has moved it since.
            (remembered(Some(900), own, Some(950)), Begin::TakeOver(at(950, 5000))),
            (remembered(Some(900), None, Some(850)), Begin::TakeOver(at(850, 5000))),
            // The stream's seqs are another relay's.
            (
                remembered(Some(900), None, Some(700_000)),
                Begin::TakeOver(at(900, 5000)),
            ),
            (remembered(Some(900), None, None), Begin::TakeOver(at(900, 0))),
            (remembered(None, None, Some(850)), Begin::TakeOver(at(850, 5000))),
            (remembered(None, None, None), Begin::Fresh(Start::Oldest)),
            (
                remembered(Some(700), Some(("other", 700)), Some(690)),
                Begin::ByTime(at(700, 9000)),
            ),
        ] {
            assert_eq!(
                decide(&remembered, "relay", Start::Oldest, true),
                begin,
                "{remembered:?}"
            );
        }
    }

    #[test]
    fn beside_another_producer_the_own_position_counts() {
        let moved = remembered(Some(900), Some(("relay", 700)), Some(950));
        assert_eq!(decide(&moved, "relay", Start::Now, false), Begin::After(at(700, 9000)));
    }
}
