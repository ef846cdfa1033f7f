//! The parameters of a statement: columns as arrays, for `unnest`.
//!
//! Owns the binary format of values on the wire. Statements are sent unnamed with the types of their parameters, except
//! those that `client` keeps prepared. This takes one round trip and leaves nothing in the session, as PgBouncer's
//! transaction mode requires, and PostgreSQL plans each statement for the actual lengths of its arrays.

use std::borrow::Borrow;
use std::error::Error;

use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::row::Row;
use crate::postgres::sql::Statement;
use crate::runtime::heartbeat;

/// Parameters in the order of their numbers.
#[derive(Default)]
pub struct Params<'p> {
    values: Vec<Box<dyn ToSql + Sync + 'p>>,
    types: Vec<Type>,
    /// The length of the longest array.
    n_rows: usize,
}

impl<'p> Params<'p> {
    pub fn new() -> Self {
        Params::default()
    }

    fn push(mut self, value: impl ToSql + Sync + 'p, kind: Type) -> Self {
        self.values.push(Box::new(value));
        self.types.push(kind);
        self
    }

    fn array<T: ToSql + Sync + 'p>(mut self, values: impl Iterator<Item = T>, kind: Type) -> Self {
        let values: Vec<T> = values.collect();
        self.n_rows = self.n_rows.max(values.len());
        self.push(values, kind)
    }

    pub fn text(self, value: &'p str) -> Self {
        self.push(value, Type::TEXT)
    }

    pub fn long(self, value: i64) -> Self {
        self.push(value, Type::INT8)
    }

    pub fn boolean(self, value: bool) -> Self {
        self.push(value, Type::BOOL)
    }

    /// JSON text for jsonb.
    pub fn json(self, text: &'p str) -> Self {
        self.push(JsonText(text), Type::JSONB)
    }

    pub fn texts<T: AsRef<str> + ?Sized + 'p>(self, values: impl Iterator<Item = &'p T>) -> Self {
        self.array(values.map(AsRef::as_ref), Type::TEXT_ARRAY)
    }

    pub fn optional_texts<T: Borrow<str> + 'p>(self, values: impl Iterator<Item = &'p Option<T>>) -> Self {
        let values = values.map(|value| value.as_ref().map(Borrow::borrow));
        self.array(values, Type::TEXT_ARRAY)
    }

    /// JSON text for jsonb columns.
    pub fn jsons<T: AsRef<str> + ?Sized + 'p>(self, values: impl Iterator<Item = &'p T>) -> Self {
        let values = values.map(|value| JsonText(value.as_ref()));
        self.array(values, Type::JSONB_ARRAY)
    }

    pub fn optional_jsons<T: Borrow<str> + 'p>(self, values: impl Iterator<Item = &'p Option<T>>) -> Self {
        let values = values.map(|value| value.as_ref().map(|text| JsonText(text.borrow())));
        self.array(values, Type::JSONB_ARRAY)
    }

    pub fn time(self, value: Micros) -> Self {
        self.push(Timestamp(value), Type::TIMESTAMP)
    }

    pub fn times(self, values: impl Iterator<Item = Micros>) -> Self {
        self.array(values.map(Timestamp), Type::TIMESTAMP_ARRAY)
    }

    pub fn optional_times(self, values: impl Iterator<Item = Option<Micros>>) -> Self {
        let values = values.map(|value| value.map(Timestamp));
        self.array(values, Type::TIMESTAMP_ARRAY)
    }

    pub fn bools(self, values: impl Iterator<Item = bool>) -> Self {
        self.array(values, Type::BOOL_ARRAY)
    }

    pub fn ints(self, values: impl Iterator<Item = i32>) -> Self {
        self.array(values, Type::INT4_ARRAY)
    }

    pub fn longs(self, values: impl Iterator<Item = i64>) -> Self {
        self.array(values, Type::INT8_ARRAY)
    }

    /// Runs the statement in the client's transaction and returns its rows.
    pub fn query(self, client: &mut Client, statement: Statement) -> Result<Vec<Row>, ApplyError> {
        self.query_filled(client, statement, statement.text)
    }

    /// Like `query`, for a statement whose names in braces the caller has replaced in `text`.
    pub fn query_filled(self, client: &mut Client, statement: Statement, text: &str) -> Result<Vec<Row>, ApplyError> {
        let prepared = client.prepared(statement.name, text, &self.types, self.n_rows);
        let result = prepared.and_then(|prepared| match prepared {
            Some(prepared) => client.query(&prepared, &self.untyped()),
            None => client.query_typed(text, &self.typed()),
        });
        heartbeat::beat();
        let rows = result.map_err(|source| ApplyError::of_statement(statement, source))?;
        Ok(rows.into_iter().map(|row| Row::new(row, statement)).collect())
    }

    /// Runs the statement in the client's transaction and returns how many rows it changed.
    pub fn execute(self, client: &mut Client, statement: Statement) -> Result<u64, ApplyError> {
        let prepared = client.prepared(statement.name, statement.text, &self.types, self.n_rows);
        let result = prepared.and_then(|prepared| match prepared {
            Some(prepared) => client.execute(&prepared, &self.untyped()),
            None => client.execute_typed(statement.text, &self.typed()),
        });
        heartbeat::beat();
        result.map_err(|source| ApplyError::of_statement(statement, source))
    }

    fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.untyped().into_iter().zip(self.types.iter().cloned()).collect()
    }

    fn untyped(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values
            .iter()
            .map(|value| value.as_ref() as &(dyn ToSql + Sync))
            .collect()
    }
}

/// JSON text in jsonb's binary format: a version byte, then the text.
#[derive(Debug)]
pub struct JsonText<'a>(pub &'a str);

impl JsonText<'_> {
    pub const VERSION: u8 = 1;
}

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&[JsonText::VERSION]);
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSONB
    }

    to_sql_checked!();
}

/// A time in PostgreSQL's binary format: microseconds since 2000.
#[derive(Debug)]
pub struct Timestamp(pub Micros);

/// 2000-01-01 in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Timestamp {
    pub fn bytes(&self) -> [u8; 8] {
        let Timestamp(Micros(micros)) = self;
        // On the wire, the largest number is infinity.
        let value = if *micros == i64::MAX {
            *micros
        } else {
            micros - POSTGRES_EPOCH
        };
        value.to_be_bytes()
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMP
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Micros(
            i64::from_be_bytes(raw.try_into()?).saturating_add(POSTGRES_EPOCH),
        ))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMP
    }
}
