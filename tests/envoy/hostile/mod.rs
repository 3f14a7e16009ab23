//! Clients that mean harm.

pub mod crowd;
pub mod fickle;
mod forged;
mod injected;
mod lasting;
pub mod stand;
mod survived;
pub mod vices;
