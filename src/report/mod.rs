//! What the worker reports of itself: to `status`, to Prometheus, to health checks and to systemd.
//!
//! Owns the figures and texts; `service` hands them out. Decides nothing about entries.

pub mod exposition;
pub mod growth;
pub mod progress;
pub mod status;
