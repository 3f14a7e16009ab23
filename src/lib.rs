//! tidegate counts what goes to an upstream, and holds or rejects arrivals before a surge takes the
//! upstream down. It runs inside Envoy as a Proxy-Wasm plugin.
//!
//! # Map
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`engine`] | counting, limits, waiting, decisions: pure, time is an argument | nothing |
//! | [`config`] | what the operator wrote, parsed and then checked into a policy | `engine` |
//! | [`protocol`] | the few messages of a refusal, and who comes: bytes in, values out | nothing |
//! | [`store`] | the shared records and the loop that updates them | `engine` |
//! | [`event`] | the log lines that programs read | `engine` |
//! | `scenario` | made-up arrivals for tests, benchmarks and replays, native alone | nothing |
//! | `plugin` | the shell around all that inside Envoy, on wasm32 alone | all of the above |
//!
//! The one rule: nothing uses `plugin`, and the engine knows nothing of its host. Host calls exist
//! on wasm32 only, so a native build that reached for one would not compile.

#![warn(missing_docs)]
// Of the module, the calls of the host and the names that it calls are unsafe.
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

extern crate alloc;

pub mod config;
pub mod engine;
pub mod event;
pub mod protocol;
#[cfg(not(target_arch = "wasm32"))]
pub mod scenario;
pub mod store;

// The unit tests for wasm32 run under Node, which has no Envoy to import from.
#[cfg(all(target_arch = "wasm32", not(test)))]
mod plugin;

/// The version and the commit of this build.
pub mod build_info {
    /// The version of the crate, as in `Cargo.toml`.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");
    /// The commit it was built from, or `unknown`.
    pub const COMMIT: &str = env!("TIDEGATE_COMMIT");
}
