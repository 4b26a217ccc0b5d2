//! Where rows are kept for good.
//!
//! The tables in memory are the truth of a running node; a backend loads them once and then only
//! writes. It checks nothing: what reaches it has passed every check.

pub mod sqlite;
#[cfg(test)]
mod tests;

use crate::schema::Catalogue;
use crate::snapshot::Change;
use crate::value::Row;
use std::fmt;

/// A keeper of rows.
pub trait Backend: Send {
    /// Its name, as the setting `database` has it.
    fn name(&self) -> &'static str;

    /// Makes ready what is missing (tables, columns) and hands over every row.
    ///
    /// # Errors
    /// One sentence for the operator.
    fn load(
        &mut self,
        catalogue: &Catalogue,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), BackendFault>;

    /// Writes all of these changes, in order, or none of them.
    ///
    /// # Errors
    /// Nothing has been written then.
    fn commit(&mut self, changes: &[Change]) -> Result<(), BackendFault>;

    /// Whether it can be asked at this moment.
    fn reachable(&mut self) -> bool;
}

/// What a backend could not do, as one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault(pub String);

impl fmt::Display for BackendFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BackendFault {}
