//! What the benchmarks share.

pub mod processor;
pub mod table;
pub mod worker;
