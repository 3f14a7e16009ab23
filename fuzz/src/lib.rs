//! What any bytes may do to tidegate: one module a target, whose `run` panics where a promise is
//! broken.
//!
//! `cargo xtask fuzz` drives them with libFuzzer. An input that once broke something is among the
//! seeds from then on.

pub mod config;
pub mod events;
pub mod gate;
pub mod headers;
pub mod logs;
pub mod manifests;
pub mod mysql;
pub mod postgres;
pub mod records;
pub mod rules;
pub mod sentry;
pub mod structs;
pub mod traces;

mod story;

// The companion is a program, so its files are compiled into this crate as they are into that one.
#[path = "../../src/bin/tidegatectl/check/mod.rs"]
#[allow(dead_code, reason = "its command uses the rest")]
mod check;
#[path = "../../src/bin/tidegatectl/explain/mod.rs"]
#[allow(dead_code, reason = "its command uses the rest")]
mod explain;
#[path = "../../src/bin/tidegatectl/replay/mod.rs"]
#[allow(dead_code, reason = "its command uses the rest")]
mod replay;
#[path = "../../src/bin/tidegatectl/report.rs"]
#[allow(dead_code, reason = "its commands use the rest")]
mod report;
#[path = "../../src/bin/tidegatectl/source/mod.rs"]
#[allow(dead_code, reason = "its commands use the rest")]
mod source;
#[path = "../../tests/engine/world.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod world;
