//! The engine: counting, limits, waiting and decisions.
//!
//! Pure: `core`, `alloc` and [`Duration`](core::time::Duration). No clock, no input or output, no
//! host and no serde. Time is an argument; a decision is a value that the shell carries out.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod adaptive;
mod alarm;
mod arrivals;
mod baseline;
mod bytes;
mod callers;
mod crowd;
mod decision;
mod detector;
mod distress;
mod drift;
mod gate;
mod gauge;
mod hot;
mod known;
mod laps;
mod ledger;
mod majority;
mod places;
mod record;
mod ring;
mod sampler;
mod sentry;
mod share;
mod surge;
mod tally;
mod tide;
mod time;
mod usual;
mod waiting;
mod window;

pub use alarm::{Alarm, Seen};
pub use arrivals::Arrivals;
pub use bytes::MemoryError;
pub use callers::{Caller, CallerId, Callers, MAX_CALLERS, MAX_KEY, OtherSeed, Spread, keyed_hash};
pub use decision::{
    Arrival, Booked, Class, Counted, Decision, Fault, Hold, Limits, MAX_CLASSES, Mode, Order,
    Outcome, Place, Reason, Terms,
};
pub use detector::Detector;
pub use distress::{Answers, Distress, Patience};
pub use gate::{Gate, RATE_SPAN};
pub use gauge::Gauge;
pub use hot::{Cut, Heat, MAX_HOT};
pub use record::{
    Change, DEAD_AFTER, MAX_WORKERS, PoolRecord, Record, Records, Row, Shared, TableFull, Totals,
    WorkerId,
};
pub use sampler::Sampler;
pub use sentry::{Sentry, Wanted, Who};
pub use share::serves;
pub use surge::{Changes, DetectorConfig, Phase, Upstream};
pub use tally::Tally;
pub use tide::{Lookout, Notice, Rejected, Report, Sighting, Signal, Standing, TideRecord};
pub use time::Timestamp;
pub use usual::{Spans, Usual};
pub use waiting::{StreamId, Waiting};
pub use window::Window;
