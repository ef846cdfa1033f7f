//! Shrinks a failing history as long as it still fails.

use super::history::{History, What};

/// Whatever can be left out, left out: halves of it, quarters, then single acts, events and ops.
pub(crate) fn smallest(mut history: History, max_tries: usize, mut fails: impl FnMut(&History) -> bool) -> History {
    let mut tries = 0;
    let mut length = n_parts(&history);
    while length > 0 {
        let mut at = 0;
        while at < n_parts(&history) {
            let smaller = without(&history, at, length);
            tries += 1;
            if tries > max_tries {
                return history;
            }
            if fails(&smaller) {
                history = smaller;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    history
}

/// Acts, events and ops.
fn n_parts(history: &History) -> usize {
    let n_ops = |what: &What| match what {
        What::Commit { ops, .. } => ops.len(),
        _ => 0,
    };
    let of_phase = |phase: &super::history::Phase| {
        phase.acts.len() + phase.events.iter().map(|event| 1 + n_ops(&event.what)).sum::<usize>()
    };
    history.phases.iter().map(of_phase).sum()
}

fn without(history: &History, at: usize, length: usize) -> History {
    let mut smaller = history.clone();
    let mut n = 0;
    let mut stays = || {
        n += 1;
        !(at + 1..=at + length).contains(&n)
    };
    for phase in &mut smaller.phases {
        phase.acts.retain(|_| stays());
        phase.events.retain_mut(|event| {
            let stays_itself = stays();
            if let What::Commit { ops, .. } = &mut event.what {
                ops.retain(|_| stays());
            }
            stays_itself
        });
    }
    smaller
}
