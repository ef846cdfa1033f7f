//! Time as stored in PostgreSQL's `timestamp` columns.

/// UTC wall time in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// Later than all times; PostgreSQL's `infinity`.
    pub const INFINITY: Micros = Micros(i64::MAX);

    pub fn of_millis(ms: i64) -> Micros {
        Micros(ms.saturating_mul(1000))
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }
}
