//! Rows are a function of the events, however these are batched, repeated, or ordered across repos, and whichever rows
//! other programs have written or deleted.

mod app_rows;
mod folding;
mod forgotten;
mod older_rows;
mod order;
mod pairs;
mod rivals;
mod switches;
