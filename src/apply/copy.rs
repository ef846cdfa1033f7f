//! Many new rows → COPY.
//!
//! Owns when COPY is used instead of INSERT: for rows that are expected not to be there, if there are many. It costs
//! PostgreSQL less, but one row that is there fails the whole transaction; so after such a failure the batch is
//! done over with INSERT, and COPY is left alone for a while.

use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::postgres::fault::ApplyError;
use crate::postgres::sql::Statement;
use crate::runtime::heartbeat;

/// How rows that are expected to be new are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// All at once; one that is there fails the transaction.
    Copy,
    /// With a look at each key.
    Insert,
}

/// Rows from which on COPY pays: below, its round trips cost more than it saves.
const MIN_ROWS: usize = 50;

impl WriteMode {
    pub fn copies(self, rows: usize) -> bool {
        self == WriteMode::Copy && rows >= MIN_ROWS
    }
}

/// Whether COPY is worth a try, going by how the last tries went.
#[derive(Debug, Default)]
pub struct CopyBackoff {
    failures: u32,
    batches_to_wait: u32,
}

/// Batches left to INSERT after many failures in a row.
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

/// Copies the rows that `write_rows` writes.
pub fn copy(
    client: &mut Client,
    statement: Statement,
    types: &[Type],
    write_rows: impl FnOnce(&mut BinaryCopyInWriter) -> Result<(), postgres::Error>,
) -> Result<u64, ApplyError> {
    let of_statement = |source| ApplyError::of_statement(statement, source);
    let writer = client.copy_in(statement.text).map_err(of_statement)?;
    let mut writer = BinaryCopyInWriter::new(writer, types);
    write_rows(&mut writer).map_err(of_statement)?;
    let result = writer.finish();
    heartbeat::beat();
    result.map_err(of_statement)
}
