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

mod alarm;
mod baseline;
mod bytes;
mod callers;
mod decision;
mod detector;
mod distress;
mod drift;
mod gate;
mod gauge;
mod laps;
mod record;
mod ring;
mod surge;
mod tally;
mod tide;
mod time;
mod waiting;
mod window;

pub use alarm::{Alarm, Seen};
pub use bytes::MemoryError;
pub use callers::{Caller, CallerId, Callers, MAX_CALLERS, MAX_KEY, OtherSeed, Spread, keyed_hash};
pub use decision::{Arrival, Decision, Fault, Hold, Limits, Mode, Order, Outcome, Place, Reason};
pub use detector::Detector;
pub use distress::{Answers, Distress};
pub use gate::{Gate, RATE_SPAN};
pub use gauge::Gauge;
pub use record::{
    Change, DEAD_AFTER, MAX_WORKERS, PoolRecord, Record, Row, Shared, TableFull, Totals, WorkerId,
};
pub use surge::{Changes, DetectorConfig, Phase};
pub use tally::Tally;
pub use tide::{Lookout, Notice, Report, Sighting, Signal, TideRecord};
pub use time::Timestamp;
pub use waiting::{StreamId, Waiting};
pub use window::Window;
