//! Clients that mean harm.

mod aborted;
mod forged;
mod injected;
mod lasting;
#[allow(dead_code, reason = "the benchmarks use the rest of it")]
mod parts;
mod seed;
mod survived;

use parts::{crowd, stand, vices};
