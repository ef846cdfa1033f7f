//! Tables whose rows depend only on their own record: feed generators, starter packs, labelers, lists, labels, gates,
//! generic records.
//!
//! Owns these tables. Deletes run first, so that a record deleted and created again in the same batch gets a new row.

use crate::fold::Changes;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::templates;
use crate::rows::keyed::{IndexedAt, Kind, Value};
use crate::rows::{KeyedRow, KeyedTable};

/// Writes the batch's changes to all of these tables.
pub fn write(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    for (table, changes) in &changes.keyed {
        if !changes.deleted.is_empty() {
            let keys = changes.deleted.iter().copied();
            Params::new()
                .texts(keys)
                .execute(client, templates::keyed(table).delete)?;
        }
        if !changes.put.is_empty() {
            params(table, &changes.put).execute(client, templates::keyed(table).upsert)?;
        }
    }
    Ok(())
}

/// The parameters of an upsert: the key, the columns, and `indexed_at` if the table has it.
fn params<'p>(table: &KeyedTable, rows: &'p [(&str, &KeyedRow)]) -> Params<'p> {
    let mut params = Params::new().texts(rows.iter().map(|(key, _)| *key));
    for (index, (_, kind)) in table.columns.iter().enumerate() {
        let values = rows.iter().map(|(_, row)| &row.values[index]);
        params = match kind {
            Kind::Text => params.optional_texts(values.map(Value::as_text)),
            Kind::Json => params.jsons(values.map(Value::as_json)),
            Kind::Bool => params.bools(values.map(|value| *value == Value::Bool(true))),
            Kind::Time => params.optional_times(values.map(Value::as_time)),
        };
    }
    match table.indexed_at {
        IndexedAt::Absent => params,
        IndexedAt::OfCreation | IndexedAt::OfChange => params.times(rows.iter().map(|(_, row)| row.indexed_at)),
    }
}
