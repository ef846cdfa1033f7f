//! The consumer between a relay that the test controls and a Redis of its own: each event becomes one entry, in order,
//! whichever of the three stops, restarts or misbehaves.

mod dashboard;
mod exactly_once;
mod frames;
mod odd_frames;
mod peers;
mod pipeline;
mod position;
mod pressure;
mod proxy;
mod redis_faults;
mod relay_faults;
mod rights;
mod silence;
