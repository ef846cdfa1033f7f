//! The process as a service: what systemd, Prometheus and health checks learn of it.
//!
//! Owns the protocols: sd_notify(3) and HTTP. The worker and the consumer own the figures and texts, which they provide
//! as `Pages` and `Progress`.

pub mod answer;
mod connections;
pub mod http;
pub mod notify;
pub mod prometheus;
