//! The viewer states that do not exist yet.
//!
//! Owns their reading, before the likes, reposts and bookmarks of a batch are written. A pair without a viewer state
//! has none of these records, because the worker deletes a state only together with them. If another program deleted it,
//! or if states were not written before, COPY fails on the record's row, and the batch is written again with INSERT.

use std::collections::{BTreeSet, HashSet};

use super::has_state;
use crate::apply::copy::WriteMode;
use crate::apply::scope::Scope;
use crate::fold::Changes;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::rows::PairTable;

/// The pairs of post and viewer, among those that the batch puts, without a viewer state.
pub struct FreshStates<'e>(HashSet<(&'e str, &'e str)>);

impl<'e> FreshStates<'e> {
    /// Reads them. `None` if the batch has too few for COPY, or if not every pair has a state.
    pub fn read(
        client: &mut Client,
        changes: &Changes<'e>,
        scope: &Scope,
        write_mode: WriteMode,
    ) -> Result<Option<FreshStates<'e>>, ApplyError> {
        let tables = PairTable::ALL.into_iter().filter(|table| has_state(*table));
        let rows = tables.flat_map(|table| &changes.pair(table).put);
        let pairs: BTreeSet<(&str, &str)> = rows.map(|row| (row.key_b.as_ref(), row.key_a.as_ref())).collect();
        if !scope.has_all_states() || !write_mode.copies(pairs.len()) {
            return Ok(None);
        }
        let answer = Params::new()
            .texts(pairs.iter().map(|(post, _)| *post))
            .texts(pairs.iter().map(|(_, viewer)| *viewer))
            .query(client, sql::STATES_HELD)?;
        let held = answer.iter().map(|row| Ok((row.get(0)?, row.get(1)?)));
        let held: HashSet<(&str, &str)> = held.collect::<Result<_, ApplyError>>()?;
        let fresh = pairs.into_iter().filter(|pair| !held.contains(pair));
        Ok(Some(FreshStates(fresh.collect())))
    }

    pub fn contains(&self, post: &str, viewer: &str) -> bool {
        self.0.contains(&(post, viewer))
    }
}
