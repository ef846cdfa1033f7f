//! The reports of the process: to `status`, to Prometheus, to health checks and to systemd.
//!
//! Owns the counts and figures and the threads that hand them out. Decides nothing about entries.

mod connections;
pub mod exposition;
pub mod http;
pub mod notify;
pub mod status;
