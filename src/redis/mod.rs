//! Redis as the rest of the program sees it: its address, connections, their limits of time, and its clock.

pub mod address;
pub mod clock;
pub mod exactly_once;
pub mod link;
