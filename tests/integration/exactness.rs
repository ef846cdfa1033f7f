//! Rows are a function of the events: however they are cut into batches, repeated, or ordered across repos, and
//! whoever else has written or deleted rows.

mod app_rows;
mod folding;
mod forgotten;
mod older_rows;
mod order;
mod pairs;
mod rivals;
mod switches;
