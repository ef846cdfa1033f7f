//! The commands for operators, besides the worker itself. Each uses its own links and starts no thread of the worker.

pub mod check;
pub mod dead_letters;
pub mod fill;
pub mod prune;
pub mod set_aside;
pub mod status;
pub mod terminal;
pub mod unit_user;
pub mod repair;
