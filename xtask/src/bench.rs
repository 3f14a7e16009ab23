//! The benchmarks.

use std::process::ExitCode;

/// Name and purpose of every benchmark.
const BENCHES: &[(&str, &str)] = &[];

/// Runs the benchmark of that name; lists them all when there is none of it.
pub fn run(name: Option<&str>) -> ExitCode {
    if let Some(name) = name {
        eprintln!("error: there is no benchmark `{name}`");
    }
    eprintln!("benchmarks: {}", BENCHES.len());
    for (name, purpose) in BENCHES {
        eprintln!("  {name}  {purpose}");
    }
    ExitCode::from(2)
}
