//! The benchmarks.

mod detect;
mod endurance;
mod overhead;
mod plain;
mod surge;
mod with_envoy;
mod workers;

use std::process::ExitCode;

use anyhow::Result;

use crate::{bench::plain::Plain, checkout::Context};

/// A benchmark: its name, its purpose, and what runs it.
type Bench = (
    &'static str,
    &'static str,
    fn(&Context, &[String]) -> Result<ExitCode>,
);

/// Every benchmark.
const BENCHES: &[Bench] = &[
    (
        "detect",
        "how soon surges are seen, and how often where there are none",
        detect::run,
    ),
    (
        "gate",
        "what one arrival costs in calm, beside governor and pingora-limits",
        |ctx, args| plain::run(ctx, GATE, args),
    ),
    (
        "hostile",
        "a hundred thousand hostile connections, and who is served meanwhile",
        endurance::hostile,
    ),
    (
        "memory",
        "what a virtual machine holds after a million callers, and how long it takes to load",
        with_envoy::memory,
    ),
    (
        "overhead",
        "what tidegate costs where nothing is wrong, beside other filters",
        overhead::run,
    ),
    (
        "slope",
        "what one arrival costs with more rules, callers and workers",
        with_envoy::slope,
    ),
    (
        "soak",
        "mixed load and random faults for as long as one likes",
        endurance::soak,
    ),
    (
        "surge",
        "who is served in a surge, before tidegate and before others",
        surge::run,
    ),
    (
        "workers",
        "what it costs many workers to keep one limit, and how well they do",
        workers::run,
    ),
];

const GATE: Plain = Plain {
    name: "gate",
    command: "cargo xtask bench gate",
    about: "What one arrival costs in the engine while all is calm: beside a check of governor, and an \
        observation of pingora-limits",
};

/// Runs the benchmark of that name; lists them all when there is none of it.
pub fn run(ctx: &Context, name: Option<&str>, args: &[String]) -> Result<ExitCode> {
    if let Some(name) = name {
        if let Some((_, _, run)) = BENCHES.iter().find(|(known, ..)| *known == name) {
            return run(ctx, args);
        }
        eprintln!("error: there is no benchmark `{name}`");
    }
    eprintln!("benchmarks: {}", BENCHES.len());
    for (name, purpose, _) in BENCHES {
        eprintln!("  {name}  {purpose}");
    }
    Ok(ExitCode::from(2))
}
