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
mod record;
mod tally;
mod time;
mod waiting;
mod window;

pub use decision::{Arrival, Decision, Fault, Hold, Limits, Mode, Order, Outcome, Place, Reason};
pub use gate::{Gate, RATE_SPAN};
pub use record::{
    Change, DEAD_AFTER, DecodeError, MAX_WORKERS, Pool, PoolRecord, Row, TableFull, Totals,
    WorkerId,
};
pub use tally::Tally;
pub use time::Timestamp;
pub use waiting::{StreamId, Waiting};
pub use window::Window;
