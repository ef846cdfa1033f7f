//! What a person asks of the program beside running it. Each command has its own links, and no thread of the worker's.

pub mod check;
pub mod dead_letters;
mod producer;
pub mod status;
pub mod terminal;
pub mod unit_user;
pub mod repair;
