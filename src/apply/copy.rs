//! Writes many new rows with COPY.
//!
//! Owns the choice between COPY and INSERT. COPY costs PostgreSQL less, but a single row that already exists fails the
//! whole transaction. COPY is therefore used only for large sets of rows that are expected to be new. If it fails, the
//! batch is written again with INSERT, and the next batches use INSERT as well.

/// How rows that are expected to be new are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// With one COPY per table; a row that already exists fails the transaction.
    Copy,
    /// With INSERT, which checks each key for a conflict.
    Insert,
}

/// The number of rows from which COPY pays off. Below it, the extra round trips cost more than COPY saves.
const MIN_ROWS: usize = 50;

impl WriteMode {
    pub fn copies(self, rows: usize) -> bool {
        self == WriteMode::Copy && rows >= MIN_ROWS
    }
}

/// Decides whether to attempt COPY, based on how recent attempts ended.
#[derive(Debug, Default)]
pub struct CopyBackoff {
    failures: u32,
    batches_to_wait: u32,
}

/// The maximum number of batches written with INSERT after a failed COPY. The number doubles with each failure in a
/// row.
const MAX_WAIT: u32 = 64;

impl CopyBackoff {
    /// How the next batch is written.
    pub fn write_mode(&mut self) -> WriteMode {
        if self.batches_to_wait > 0 {
            self.batches_to_wait -= 1;
            return WriteMode::Insert;
        }
        WriteMode::Copy
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failed(&mut self) {
        self.batches_to_wait = 2u32.saturating_pow(self.failures).min(MAX_WAIT);
        self.failures += 1;
    }
}
