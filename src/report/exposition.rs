//! The metrics in Prometheus' text format.
//!
//! Owns their names, help texts and types, by Prometheus' conventions: base units, `_total` for counters. The values
//! come from `metrics`; nothing is counted here.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::in_flight::InFlight;
use crate::metrics::{Metrics, Totals};
use crate::service::http::Pages;
use crate::service::prometheus::{self, counter, gauge, labelled, process};

/// All metrics of the process.
pub struct Exposition {
    registry: Registry,
    metrics: Arc<Metrics>,
}

impl Exposition {
    pub fn new(metrics: Arc<Metrics>, in_flight: Arc<InFlight>) -> Exposition {
        let mut registry = Registry::with_prefix("firehose_worker");
        let timings = &metrics.timings;
        registry.register(
            "batch_entries",
            "Entries per applied batch",
            timings.batch_entries.clone(),
        );
        registry.register(
            "transaction_seconds",
            "Duration of a batch's transactions, including failed ones",
            timings.transaction_seconds.clone(),
        );
        registry.register(
            "commit_freshness_seconds",
            "Age of the newest entry of a batch when it was committed",
            timings.commit_freshness_seconds.clone(),
        );
        registry.register_collector(Box::new(Counted {
            metrics: Arc::clone(&metrics),
            in_flight,
        }));
        Exposition { registry, metrics }
    }
}

impl Pages for Exposition {
    fn metrics(&self) -> Result<String, fmt::Error> {
        prometheus::text(&self.registry)
    }

    fn readiness(&self) -> Result<(), String> {
        self.metrics.readiness.check()
    }
}

struct Counted {
    metrics: Arc<Metrics>,
    in_flight: Arc<InFlight>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let totals = self.metrics.totals();
        encode_counters(&mut encoder, &totals)?;
        let (entries, bytes) = self.in_flight.held();
        gauge(
            &mut encoder,
            "in_flight_entries",
            "Entries read and not yet acknowledged",
            entries as f64,
        )?;
        gauge(
            &mut encoder,
            "in_flight_bytes",
            "Bytes of the entries in flight",
            bytes as f64,
        )?;
        if let Some(newest) = totals.newest_committed {
            let age = newest.elapsed().unwrap_or_default();
            let help = "Age of the newest committed entry";
            gauge(&mut encoder, "freshness_seconds", help, age.as_secs_f64())?;
        }
        let is_ready = f64::from(u8::from(self.metrics.readiness.check().is_ok()));
        gauge(
            &mut encoder,
            "ready",
            "Whether the worker makes progress, as /readyz reports",
            is_ready,
        )?;
        process(&mut encoder)
    }
}

fn encode_counters(encoder: &mut DescriptorEncoder, totals: &Totals) -> fmt::Result {
    let help = "Entries acknowledged, each of them applied or deliberately ignored";
    labelled(encoder, "events", help, "type", &totals.by_type)?;
    let help = "Entries of which a part became a dead letter";
    counter(encoder, "errors", help, totals.errors)?;
    let letters = totals.dead_letters.iter();
    let letters: Vec<_> = letters.map(|(reason, number)| (reason.as_str(), *number)).collect();
    labelled(encoder, "dead_letters", "Dead letters stored", "reason", &letters)?;
    let lost = [
        ("pending_trimmed", totals.losses.pending_trimmed),
        ("unread_trimmed", totals.losses.unread_trimmed),
    ];
    labelled(
        encoder,
        "entries_lost",
        "Entries trimmed from the stream before they were applied",
        "cause",
        &lost,
    )?;
    let help = "How often the consumer group was missing and recreated";
    counter(encoder, "groups_recreated", help, totals.losses.groups_recreated)?;
    labelled(
        encoder,
        "ops_ignored",
        "Ops that change nothing",
        "reason",
        &totals.ignored,
    )
}
