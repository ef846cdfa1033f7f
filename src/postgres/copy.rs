//! COPY with rows in binary format.
//!
//! Owns the format on the wire, and how many bytes a message holds. The writers of the postgres crate send a message of
//! 4 KiB each time, which wakes the server as often. Messages of `CHUNK` bytes cost both sides less CPU, and still take
//! little memory.

use std::io::{self, Write};

use postgres::CopyInWriter;

use super::client::Client;
use super::fault::ApplyError;
use super::params::{JsonText, Timestamp};
use super::sql::Statement;
use crate::micros::Micros;
use crate::runtime::heartbeat;

/// The size in bytes from which the rows are sent.
const CHUNK: usize = 16 << 10;

/// The signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In place of a row's number of columns.
const END: i16 = -1;

/// Runs a COPY statement with the rows that `write_rows` writes. Returns the number of rows copied.
pub fn copy(
    client: &mut Client,
    statement: Statement,
    write_rows: impl FnOnce(&mut CopyRows) -> io::Result<()>,
) -> Result<u64, ApplyError> {
    let of_statement = |source| ApplyError::of_statement(statement, source);
    let writer = client.copy_in(statement.text).map_err(of_statement)?;
    let mut rows = CopyRows {
        writer,
        bytes: HEADER.to_vec(),
    };
    let sent = write_rows(&mut rows).and_then(|()| rows.end());
    // The writer makes no errors of its own.
    sent.map_err(|error| of_statement(error.downcast().expect("an error of the postgres crate")))?;
    let result = rows.writer.finish();
    heartbeat::beat();
    result.map_err(of_statement)
}

/// The rows of a COPY.
pub struct CopyRows<'c> {
    writer: CopyInWriter<'c>,
    bytes: Vec<u8>,
}

impl CopyRows<'_> {
    /// Writes a row: `write_columns` writes all of its columns, in the order of the statement.
    pub fn write(&mut self, write_columns: impl FnOnce(&mut Columns)) -> io::Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&END.to_be_bytes());
        let mut columns = Columns {
            bytes: &mut self.bytes,
            number: 0,
        };
        write_columns(&mut columns);
        let number = columns.number;
        self.bytes[start..start + 2].copy_from_slice(&number.to_be_bytes());
        if self.bytes.len() < CHUNK {
            return Ok(());
        }
        self.send()
    }

    fn end(&mut self) -> io::Result<()> {
        self.bytes.extend_from_slice(&END.to_be_bytes());
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.bytes)?;
        self.bytes.clear();
        self.writer.flush()
    }
}

/// The columns of a row.
pub struct Columns<'b> {
    bytes: &'b mut Vec<u8>,
    number: i16,
}

impl Columns<'_> {
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.value(&[text.as_bytes()])
    }

    pub fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// JSON text for jsonb.
    pub fn json(&mut self, text: &str) -> &mut Self {
        self.value(&[&[JsonText::VERSION], text.as_bytes()])
    }

    pub fn optional_json(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.json(text),
            None => self.null(),
        }
    }

    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.value(&[&[u8::from(value)]])
    }

    pub fn time(&mut self, time: Micros) -> &mut Self {
        self.value(&[&Timestamp(time).bytes()])
    }

    pub fn optional_time(&mut self, time: Option<Micros>) -> &mut Self {
        match time {
            Some(time) => self.time(time),
            None => self.null(),
        }
    }

    fn value(&mut self, parts: &[&[u8]]) -> &mut Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // The texts of a record are far below 2 GiB: an entry is bounded.
        self.bytes.extend_from_slice(&(length as i32).to_be_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.number += 1;
        self
    }

    fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
        self.number += 1;
        self
    }
}
