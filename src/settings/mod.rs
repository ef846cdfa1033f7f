//! The command line, the environment, and what they say.
//!
//! Owns all of the program that reads settings: nothing else looks at the environment. No password leaves it but to a server.

pub mod cli;
pub mod config;
pub mod env_file;
pub mod secret;
