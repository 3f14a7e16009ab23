//! The engine: counting, limits, waiting and decisions.
//!
//! Pure: `core`, `alloc` and [`Duration`](core::time::Duration). No clock, no input or output, no
//! host and no serde. Time is an argument; a decision is a value that the shell carries out.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod decision;
mod gate;

mod time;



pub use decision::{Decision, Mode, Reason};
pub use gate::{Hold, Limits, Order};

pub use time::Timestamp;


