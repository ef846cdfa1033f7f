//! The search for the ops of a batch that PostgreSQL refuses.
//!
//! Owns one transaction that tries the batch in `parts` and is always rolled back. An op that it finds at fault is
//! judged right away only if an op of the batch was already found to be refused for good for the same reason. For a new
//! reason, `isolate` determines with the op alone, after everything before it has been applied, whether the error is
//! transient or an operator must act.

use super::Worker;
use super::isolate::Refusals;
use super::parts::Parts;
use crate::apply;
use crate::rows::Op;

/// How far the search got.
#[derive(Default)]
pub(super) struct Sifted<'o> {
    /// Judged ops that were not refused.
    pub kept: Vec<&'o Op<'o>>,
    /// The number of judged ops: those before the first op that is refused for a new reason, or before the error that
    /// ended the search.
    pub n_judged: usize,
    /// Whether the next op was refused alone.
    pub is_next_refused: bool,
    /// A number of ops that was too large for one statement, while fewer were accepted.
    pub too_large: Option<usize>,
}

impl Worker {
    /// Tries parts of ops that were refused as a whole, until all have been judged or the search cannot continue; then
    /// the result so far counts.
    pub(super) fn sift<'o>(&mut self, ops: &[&'o Op<'o>], refusals: &mut Refusals<'_, 'o>) -> Sifted<'o> {
        let mut sifted = Sifted::default();
        let (switches, memory, streak) = (self.switches, &mut self.memory, self.streak);
        let searched = self.db.with(|client| {
            memory.connected(self.db.connections());
            apply::with_sieve(client, ops, switches, memory, |sieve| {
                let mut parts = Parts::of(ops.len());
                while let Some(part) = parts.next().filter(|_| !refusals.are_too_many(streak)) {
                    match sieve.try_part(&ops[part.clone()]) {
                        Ok(()) => {
                            parts.pass(&part);
                            sifted.kept.extend(&ops[part.clone()]);
                            sifted.n_judged = part.end;
                            sifted.too_large = parts.too_large;
                            continue;
                        }
                        Err(error) if !error.may_be_of_one_op() => return Err(error),
                        Err(_) if part.len() > 1 => {}
                        Err(error) if refusals.knows(&error) => {
                            refusals.push(ops[part.start], error);
                            sifted.n_judged = part.end;
                        }
                        Err(_) => {
                            sifted.is_next_refused = true;
                            break;
                        }
                    }
                    parts.refuse(part);
                }
                Ok(())
            })
        });
        if let Err(error) = searched {
            log::debug!("failed to search for the refused ops: {}", error.describe());
        }
        sifted
    }
}
