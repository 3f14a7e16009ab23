//! Rows of policies that are simulated, where there is nothing real to run.
//!
//! Whoever adds a simulation returns its section and rows here; they are printed and written as
//! the others are.

use crate::table::{Row, Section};

/// Every simulated section that is wanted, with its rows.
pub fn sections(_wanted: &dyn Fn(&str) -> bool) -> Vec<(Section, Vec<Row>)> {
    Vec::new()
}
