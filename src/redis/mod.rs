//! Redis as the rest of the program sees it: its address, connections with their time limits, and its clock.

pub mod address;
pub mod append_only;
pub mod clock;
pub mod exactly_once;
pub mod link;
