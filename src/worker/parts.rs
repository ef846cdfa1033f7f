//! How many ops of a batch are tried together in the search for those at fault.
//!
//! Owns the search. A part that is refused is tried in halves, from its beginning, and parts grow again after several
//! in a row are accepted. Finding one op at fault among n takes about 3 log n attempts; if many are at fault, each op
//! takes little more than one.
//!
//! If all halves of a refused part are accepted, the part was too large, and no op in it is at fault. No later part is
//! that large.

use std::ops::Range;

/// Parts accepted in a row before the next one is twice as long. If every third op is at fault, longer parts are only
/// refused.
const STREAK: usize = 3;

/// The search through the given number of ops, which were refused as a whole.
pub struct Parts {
    n_ops: usize,
    /// Ops before this index have been judged.
    at: usize,
    size: usize,
    /// Parts accepted since one was refused.
    streak: usize,
    /// The last part that was refused, until all of it has been judged.
    refused: Option<Range<usize>>,
    /// Whether an op of that part was found to be at fault.
    has_culprit: bool,
    limit: usize,
    /// The smallest part that was too large.
    pub too_large: Option<usize>,
}

impl Parts {
    pub fn of(n_ops: usize) -> Parts {
        Parts {
            n_ops,
            at: 0,
            size: n_ops.div_ceil(2),
            streak: 0,
            refused: Some(0..n_ops),
            has_culprit: false,
            limit: n_ops,
            too_large: None,
        }
    }

    /// The part to try next, or `None` once all ops have been judged.
    pub fn next(&self) -> Option<Range<usize>> {
        let end = self.refused.as_ref().map_or(self.n_ops, |refused| refused.end);
        (self.at < self.n_ops).then(|| self.at..(self.at + self.size).min(end))
    }

    /// The part was accepted.
    pub fn pass(&mut self, part: &Range<usize>) {
        self.streak += 1;
        let growth = if self.streak >= STREAK { 2 } else { 1 };
        self.size = (growth * part.len()).min(self.limit);
        self.judged(part.end);
    }

    /// The part was refused: it is tried in halves, or its only op is at fault.
    pub fn refuse(&mut self, part: Range<usize>) {
        self.streak = 0;
        self.size = (part.len() / 2).max(1);
        if part.len() > 1 {
            self.refused = Some(part);
            self.has_culprit = false;
        } else {
            self.has_culprit = true;
            self.judged(part.end);
        }
    }

    fn judged(&mut self, end: usize) {
        self.at = end;
        if self.refused.as_ref().is_some_and(|refused| refused.end <= end)
            && let Some(refused) = self.refused.take()
            && !self.has_culprit
        {
            self.limit = (refused.len() / 2).max(1);
            self.size = self.size.min(self.limit);
            self.too_large = Some(refused.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches through `n_ops`. A part is refused if it contains an op at fault or more than `most` ops. Returns the
    /// ops found, the number of attempts, and the size of a part that was too large.
    fn search(n_ops: usize, most: usize, is_at_fault: impl Fn(usize) -> bool) -> (Vec<usize>, usize, Option<usize>) {
        let mut parts = Parts::of(n_ops);
        let (mut found, mut tries) = (Vec::new(), 0);
        while let Some(part) = parts.next() {
            tries += 1;
            if part.len() > most || part.clone().any(&is_at_fault) {
                if part.len() == 1 {
                    found.push(part.start);
                }
                parts.refuse(part);
            } else {
                parts.pass(&part);
            }
        }
        (found, tries, parts.too_large)
    }

    #[test]
    fn every_op_at_fault_is_found_and_no_other_whatever_their_share() {
        const N: usize = 1000;
        for (share, most_tries) in [(1000, 40), (100, 250), (10, 1000), (3, 1100), (2, 1100), (1, 1100)] {
            for offset in [0, 1, 7] {
                let is_at_fault = |op: usize| op % share == offset % share;
                let (found, tries, too_large) = search(N, N, is_at_fault);
                assert_eq!(found, (0..N).filter(|op| is_at_fault(*op)).collect::<Vec<_>>());
                assert!(tries <= most_tries, "{tries} tries, one of {share} at fault");
                assert_eq!(too_large, None, "one of {share}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_told_from_what_is_at_fault() {
        let (found, tries, too_large) = search(400, 7, |_| false);
        assert_eq!((found, too_large), (vec![], Some(12)));
        assert!(tries < 80, "{tries} tries");
        let (found, tries, too_large) = search(400, 7, |op| op == 300);
        assert_eq!((found, too_large), (vec![300], Some(12)));
        assert!(tries < 90, "{tries} tries");
    }
}
