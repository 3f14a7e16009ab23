//! The built modules under a host of our own, which answers as Envoy does or as no host should.
//!
//! Envoy shows what the plugin does where all is well; it can't be made to fail a call, to hand over
//! a megabyte for a header, or to call back out of turn. This host can. Whatever it does, a callback
//! never traps, ends within a bound of instructions, and leaves the memory within a bound.
//!
//! Run by `cargo xtask test`, which says where the modules are. `TIDEGATE_HOST_TIMES=20` makes
//! everything here that is random 20 times as long, and `--nocapture` shows how much was done.

mod abi;
mod configurations;
mod days;
mod dice;
mod envoy;
mod growth;
mod limits;
mod log;
mod machine;
mod module;
mod orders;
#[allow(dead_code, reason = "the tests with Envoy use the rest of it")]
#[path = "../envoy/harness/places.rs"]
mod places;
mod refusals;
mod seen;
mod statuses;
mod weather;
mod world;

use proptest::prelude::ProptestConfig;

/// How much longer than usual all that is random is to be.
fn times() -> u32 {
    let given = std::env::var("TIDEGATE_HOST_TIMES").ok();
    given.map_or(1, |text| {
        text.parse().expect("TIDEGATE_HOST_TIMES is a whole number")
    })
}

/// So many cases, or more when more is asked for.
fn cases(usual: u32) -> ProptestConfig {
    ProptestConfig {
        cases: usual.saturating_mul(times()),
        // In ms.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    }
}
