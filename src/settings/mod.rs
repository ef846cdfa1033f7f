//! The settings: command line, environment and settings file.
//!
//! Owns reading and validating them. No other module reads a setting's variable. Passwords leave this module only
//! within the addresses of servers.

pub mod cli;
pub mod config;
pub mod consumer;
pub mod consumer_args;
pub mod env_file;
pub mod known_consumer;
pub mod list;
pub mod local;
pub mod relay_url;
pub mod secret;
pub mod validate;
