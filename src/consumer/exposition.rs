//! The consumer's metrics in Prometheus' text format, and its readiness.
//!
//! Owns their names, help texts and types, by Prometheus' conventions. The values come from `counts`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use super::counts::{Cause, Counter, Counts};
use super::intake::now_ms;
use super::term::Terms;
use crate::firehose::reason::Reason;
use crate::service::http::Pages;
use crate::service::prometheus::{self, counter, gauge, labelled, process};

/// All metrics of the process.
pub struct Exposition {
    registry: Registry,
    counts: Arc<Counts>,
    terms: Terms,
}

impl Exposition {
    pub fn new(counts: Arc<Counts>, terms: Terms) -> Exposition {
        let mut registry = Registry::with_prefix("firehose_consumer");
        registry.register(
            "batch_entries",
            "Entries per transaction",
            counts.timings.batch_entries.clone(),
        );
        registry.register(
            "transaction_seconds",
            "Duration of the transactions that append entries",
            counts.timings.transaction_seconds.clone(),
        );
        registry.register_collector(Box::new(Counted(Arc::clone(&counts))));
        Exposition {
            registry,
            counts,
            terms,
        }
    }
}

impl Pages for Exposition {
    fn metrics(&self) -> Result<String, fmt::Error> {
        prometheus::text(&self.registry)
    }

    fn readiness(&self) -> Result<(), String> {
        let counts = &self.counts;
        if counts.is_paused.load(Relaxed) {
            return Ok(());
        }
        if !self.terms.is_any() {
            return Err("this process may not write: it stands by, or waits for redis".to_owned());
        }
        match counts.is_connected.load(Relaxed) {
            true => Ok(()),
            false => Err("the relay is not connected".to_owned()),
        }
    }
}

struct Counted(Arc<Counts>);

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = &self.0;
        let encoder = &mut encoder;
        encode_received(encoder, counts)?;
        encode_committed(encoder, counts)?;
        let reconnects: Vec<(&str, u64)> = Cause::ALL
            .iter()
            .map(|cause| (cause.as_str(), counts.reconnects[*cause as usize].get()))
            .collect();
        let help = "Connections to the relay that ended or failed";
        labelled(encoder, "reconnects", help, "cause", &reconnects)?;
        counter(encoder, "pauses", "Pauses for the group's backlog", counts.pauses.get())?;
        let paused = counts.paused_ms.get() as f64 / 1000.0;
        gauge(
            encoder,
            "paused_seconds",
            "Duration of all pauses that have ended",
            paused,
        )?;
        counter(
            encoder,
            "transactions",
            "Transactions that appended entries",
            counts.transactions.get(),
        )?;
        let is_connected = f64::from(u8::from(counts.is_connected.load(Relaxed)));
        gauge(encoder, "connected", "Whether the relay is connected", is_connected)?;
        gauge(
            encoder,
            "seq",
            "Seq of the newest event in the stream",
            counts.seq.load(Relaxed) as f64,
        )?;
        if let Some(lag) = counts.lag(now_ms()) {
            gauge(
                encoder,
                "lag_seconds",
                "Age of the newest event in the stream",
                lag.as_secs_f64(),
            )?;
        }
        process(encoder)
    }
}

fn encode_received(encoder: &mut DescriptorEncoder, counts: &Counts) -> fmt::Result {
    for (name, help, value) in [
        ("frames", "Messages of the relay", &counts.frames),
        ("received_bytes", "Bytes of the relay's messages", &counts.bytes),
        ("frames_ignored", "Messages that mean nothing here", &counts.ignored),
        (
            "events_replayed",
            "Events that the stream had already",
            &counts.replayed,
        ),
        (
            "gaps",
            "Gaps between two connections, whose events are lost",
            &counts.outdated,
        ),
        (
            "seq_jumps",
            "Jumps of more than 10,000 seqs between live events",
            &counts.jumps,
        ),
    ] {
        counter(encoder, name, help, value.get())?;
    }
    Ok(())
}

fn encode_committed(encoder: &mut DescriptorEncoder, counts: &Counts) -> fmt::Result {
    let committed = &counts.committed;
    let values = |named: &[(&'static str, &Counter)]| -> Vec<(&'static str, u64)> {
        named.iter().map(|(name, counter)| (*name, counter.get())).collect()
    };
    let entries = values(&[
        ("commit", &committed.commits),
        ("identity", &committed.identities),
        ("account", &committed.accounts),
    ]);
    labelled(encoder, "entries", "Entries appended to the stream", "type", &entries)?;
    let ops = values(&[
        ("create", &committed.creates),
        ("update", &committed.updates),
        ("delete", &committed.deletes),
    ]);
    labelled(encoder, "ops", "Ops of the appended entries", "action", &ops)?;
    let set_aside: Vec<(&str, u64)> = Reason::ALL
        .iter()
        .map(|reason| (reason.as_str(), committed.set_aside[*reason as usize].get()))
        .collect();
    let help = "Events and ops that did not become part of an entry";
    labelled(encoder, "set_aside", help, "reason", &set_aside)?;
    for (name, help, value) in [
        (
            "filtered",
            "Ops and events that the settings exclude",
            &committed.filtered,
        ),
        ("floats", "Floats in records, which atproto forbids", &committed.floats),
        (
            "commits_mismatched",
            "Commits with another repo or rev than their object",
            &committed.mismatched,
        ),
    ] {
        counter(encoder, name, help, value.get())?;
    }
    Ok(())
}
