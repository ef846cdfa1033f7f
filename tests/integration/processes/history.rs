//! A made-up stream in which almost every entry meets another: a few repos, a few records of each kind.

use serde_json::json;

use crate::generator::Event;
use crate::records::*;
use crate::support::entries;

const N_REPOS: usize = 6;
const N_RKEYS: usize = 4;
const N_SUBJECTS: usize = 3;

fn repo(n: usize) -> String {
    entries::did(&format!("repo {n}"))
}

/// A record of any kind, whose rkey and subject many others have.
fn record(random: &mut fastrand::Rng, repo: &str, n: usize) -> Record {
    let rkey = &format!("r{}", random.usize(..N_RKEYS));
    let subject_repo = &self::repo(random.usize(..N_SUBJECTS));
    let subject = post(subject_repo, &format!("r{}", random.usize(..N_SUBJECTS)), "hello");
    let record = match random.u32(..15) {
        0 | 1 => post(repo, rkey, &format!("text {n}")),
        2 => reply(repo, rkey, &subject, &subject),
        3 => quote(repo, rkey, &subject),
        4 | 5 => like(repo, rkey, &subject),
        6 => repost(repo, rkey, &subject),
        7 => bookmark(repo, rkey, &subject),
        8 => follow(repo, rkey, subject_repo),
        9 => block(repo, rkey, subject_repo),
        10 => list_block(repo, rkey, &list(subject_repo, "l")),
        11 => profile(repo).with(json!({"displayName": format!("name {n}")})),
        12 => thread_gate(repo, rkey, json!([])),
        13 => generator(repo, rkey).with(json!({"displayName": format!("feed {n}")})),
        _ => custom(repo, rkey, &format!("title {n}")),
    };
    match random.bool() {
        true => record.with(json!({"createdAt": LATER})),
        false => record,
    }
}

fn event(random: &mut fastrand::Rng, n: usize) -> Event {
    let repo = repo(random.usize(..N_REPOS));
    let (kind, data) = if random.u32(..20) == 0 {
        ("identity", json!({"did": repo, "handle": format!("name-{n}.example")}))
    } else {
        let ops = (0..=random.usize(..2)).map(|_| {
            let record = record(random, &repo, n);
            match random.u32(..3) {
                0 => record.delete_op(),
                1 => record.op("update"),
                _ => record.op("create"),
            }
        });
        let ops = ops.collect();
        ("commit", commit(&repo, ops))
    };
    Event {
        kind: kind.to_owned(),
        data: data.to_string(),
        seq: (n + 1).to_string(),
    }
}

pub(super) fn events(seed: u64, n_events: usize) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..n_events).map(|n| event(&mut random, n)).collect()
}
