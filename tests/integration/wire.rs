//! Wire forms: two dialects of a record, forms of CIDs and blobs, odd dates and texts, wrong types, and what becomes
//! of an entry that cannot be read.

mod cids;
mod dates;
mod dead_letters;
mod dialects;
mod ignored;
mod texts;
