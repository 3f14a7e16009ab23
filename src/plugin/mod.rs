//! The plugin inside Envoy: a thin shell over the engine.
//!
//! | module | what it is |
//! |---|---|
//! | `host` | what Envoy offers, as safe functions; the only caller of host functions |
//! | `exports` | what Envoy calls |
//! | `vm` | what one virtual machine knows: configurations, gates, streams |
//! | `gates` | the gates of all rules, and what they tell the operator |
//! | `watch` | which ends are looked at, and what is said to the operator |
//! | `who` | who comes |
//! | `peers` | who comes over mutual TLS |
//! | `slow` | refusals that are kept for a while |
//! | `ending` | how a stream ended |
//! | `matching` | what rules may ask about an arrival |
//! | `http`, `tcp` | how a decision is carried out |
//! | `metrics` | what is seen from outside |
//!
//! The shell is this crate's own and not the SDK's, for two reasons. The SDK must know at a
//! stream's creation whether it is HTTP or TCP, and traps when it was wrong; but one root context
//! serves both when two filters have the same name and configuration, and nothing that is cheap
//! tells them apart at that moment. And its host calls trap on every status that they don't
//! expect. A trap strands all paused streams of a worker, so here an unknown stream is ignored,
//! and every status is a value.
//!
//! The host calls back in while a host call of ours runs (it closes a stream from within a call,
//! say), so no call that could do so is made while the state is borrowed: callbacks collect what
//! is to be done and do it afterwards.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[forbid(unsafe_code)]
mod ending;
mod exports;
#[forbid(unsafe_code)]
mod faults;
#[forbid(unsafe_code)]
mod gates;
mod host;
#[forbid(unsafe_code)]
mod http;
#[forbid(unsafe_code)]
mod matching;
#[forbid(unsafe_code)]
mod metrics;
#[forbid(unsafe_code)]
mod peers;
#[forbid(unsafe_code)]
mod slow;
#[forbid(unsafe_code)]
mod tcp;
#[forbid(unsafe_code)]
mod vm;
#[forbid(unsafe_code)]
mod watch;
#[forbid(unsafe_code)]
mod who;
