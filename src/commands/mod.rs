//! What a person asks of the program beside running it. Each command has its own links, and no thread.

pub mod dead_letters;
pub mod table;
