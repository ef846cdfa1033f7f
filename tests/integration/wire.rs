//! Wire formats: two dialects of a record, forms of CIDs and blobs, unusual dates and texts, wrong types, and
//! unreadable entries.

mod cids;
mod dates;
mod dead_letters;
mod dialects;
mod ignored;
mod texts;
