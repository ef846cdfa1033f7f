//! The command `fill`: writes what accounts have missed while they were not local, or while notifications or viewer
//! states were not written at all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;

use crate::decode::is_did;
use crate::fill::{Fill, Filled, JOB, Pause, State, What, again, load, store};
use crate::job::{Hold, Job, OF_HOLD, Privilege};
use crate::local::register::{PRIVILEGES, enter_these, register};
use crate::postgres::db::Db;
use crate::postgres::transaction::transaction;
use crate::runtime::shutdown::{Stop, Stopped, handle_signals};
use crate::settings::cli;
use crate::settings::config::{Accounts, Config};

/// The privileges that a fill needs, besides those for local accounts and for its progress.
const NEEDED: [Privilege; 17] = [
    ("likes", "SELECT"),
    ("likes", "UPDATE"),
    ("reposts", "SELECT"),
    ("reposts", "UPDATE"),
    ("follows", "SELECT"),
    ("follows", "UPDATE"),
    ("bookmarks", "SELECT"),
    ("posts", "SELECT"),
    ("posts", "UPDATE"),
    ("quotes", "SELECT"),
    ("feed_items", "SELECT"),
    ("notifications", "SELECT"),
    ("notifications", "INSERT"),
    ("notifications", "UPDATE"),
    ("post_viewer_states", "SELECT"),
    ("post_viewer_states", "INSERT"),
    ("post_viewer_states", "UPDATE"),
];

/// Fills until the end or until a stop is requested; returns what was written.
///
/// # Errors
///
/// Fails if tables or privileges are missing, if a statement can never succeed, or if another process has taken over
/// the fill.
pub fn run(config: Config, options: &cli::Fill) -> anyhow::Result<String> {
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let what = What::written_for(config.switches, &[Accounts::All, Accounts::Local]);
    ensure!(
        !what.is_nothing(),
        "WRITE_NOTIFICATIONS and WRITE_VIEWER_STATES are false: there is nothing to fill"
    );
    if let Some(item) = options.dids.iter().find(|item| !is_did(item)) {
        anyhow::bail!("{item:?} is not a DID");
    }
    let stop = Stop::default();
    handle_signals(&stop, None)?;
    let job = Job {
        db: Db::new(config.postgres, 1, &stop),
        stop,
        name: JOB,
        if_slow: "start it again, it continues from here",
    };
    job.check_ready(true, &[&NEEDED[..], &PRIVILEGES, &OF_HOLD].concat())?;
    let given = config.local_dids.read().map_err(anyhow::Error::msg)?;
    let dids: BTreeSet<String> = options.dids.iter().cloned().collect();
    job.attempt(|client| register(client, &given))?;
    if !dids.is_empty() {
        job.attempt(|client| enter_these(client, &dids))?;
    }
    let hold = Hold::new(JOB);
    let state = begin(&job, &hold, dids.into_iter().collect(), what)?;
    let pause = Pause::Of(Duration::from_millis(options.pause_ms));
    let mut fill = Fill::new(&job, &hold, what, pause, state);
    match fill.run() {
        Err(error) if error.is::<Stopped>() => log::info!("stopped; the same command continues from here"),
        result => result?,
    }
    Ok(summary(fill.state.filled))
}

/// Takes the job over. Continues an unfinished fill of the same accounts; otherwise marks the accounts as missing
/// everything.
fn begin(job: &Job, hold: &Hold, dids: Vec<String>, what: What) -> anyhow::Result<State> {
    let state = load(&job.attempt(|client| hold.take(client, &store(&State::default())))?);
    if state.asked.as_ref() == Some(&dids) {
        log::info!("continuing an unfinished fill");
        return Ok(state);
    }
    let state = State::asked_for(dids.clone());
    let text = store(&state);
    job.attempt(|client| {
        transaction(client, |client| {
            again(client, &dids, what)?;
            hold.save(client, &text)
        })
    })?;
    Ok(state)
}

fn summary(filled: Filled) -> String {
    let Filled {
        accounts,
        notifications,
        viewer_states,
    } = filled;
    format!("{accounts} accounts filled: {notifications} notifications and {viewer_states} viewer states written\n")
}
