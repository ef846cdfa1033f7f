//! What the process tells of itself: to the dashboard, to `status`, to Prometheus, to systemd, to the log.
//!
//! Owns the counts and figures and the threads that hand them out. Decides nothing about entries.

mod connections;
pub mod exposition;
pub mod http;
pub mod notify;
pub mod status;
