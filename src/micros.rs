//! Time as stored in PostgreSQL's `timestamp` columns.

/// UTC wall time in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    pub fn of_millis(ms: i64) -> Micros {
        Micros(ms.saturating_mul(1000))
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }
}
