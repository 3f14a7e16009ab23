//! The benchmarks.

mod detect;
mod overhead;
mod surge;
mod workers;

use std::process::ExitCode;

use anyhow::Result;

use crate::checkout::Context;

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
        "overhead",
        "what tidegate costs where nothing is wrong, beside other filters",
        overhead::run,
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
