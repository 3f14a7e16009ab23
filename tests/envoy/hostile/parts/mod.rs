//! Hostile clients, decent ones, and what they come to; shared by the tests and the benchmarks.

pub mod crowd;
pub mod fickle;
pub mod stand;
pub mod vices;
