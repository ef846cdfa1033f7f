//! The search for the ops of a batch that PostgreSQL refuses.
//!
//! Owns one transaction that tries the batch in `parts` and comes to nothing. What it finds at fault is judged without another
//! question only where the same reason has been found to stay with an op of the batch before; whether another reason passes, or
//! somebody must mend it, is for `isolate` to find out with the op alone, after all before it has been applied.

use super::Worker;
use super::isolate::Refusals;
use super::parts::Parts;
use crate::apply;
use crate::rows::Op;

/// How far the search came.
#[derive(Default)]
pub(super) struct Sifted<'o> {
    /// The ops that were looked at and not refused.
    pub kept: Vec<&'o Op<'o>>,
    /// Ops that were looked at: those before the first that something unknown refuses, or before what ended the search.
    pub n_judged: usize,
    /// Whether the op after them was refused alone.
    pub is_next_refused: bool,
    /// So many ops in one statement were too many, and fewer were not.
    pub too_large: Option<usize>,
}

impl Worker {
    /// Tries parts of ops that were refused as a whole, until all have been judged or the search cannot go on: then what is
    /// known so far counts.
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
            log::debug!("failed to look for the ops that are refused: {}", error.describe());
        }
        sifted
    }
}
