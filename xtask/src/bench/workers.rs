//! `cargo xtask bench workers`: sets up Envoy, builds and runs `benches/workers`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
    setup::{self, Part},
    tools, wasm,
};

/// What it costs many workers to keep one limit together, and how well they do
///
/// A model of 4, 16 and 64 workers with leases and four other ways, and the real Envoy in a storm.
#[derive(Parser)]
#[command(name = "cargo xtask bench workers")]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Shorter runs
    #[arg(long)]
    quick: bool,
    /// Only the section of that name: model, storm
    #[arg(long, value_name = "SECTION")]
    only: Option<String>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

/// Runs the benchmark.
pub fn run(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    let name = "cargo xtask bench workers".to_owned();
    let args = match Args::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    if args.only.as_deref() != Some("model") {
        setup::ensure(ctx, &[Part::Envoy])?;
        wasm::build(ctx)?;
    }
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", "bench-workers", "--"]);
    // The benchmark runs in the root of the package, wherever this command was typed.
    if let Some(file) = &args.json {
        command.arg("--json").arg(checkout::absolute(file)?);
    }
    for (option, given) in [("--quick", args.quick), ("--strict", args.strict)] {
        command.args(given.then_some(option));
    }
    if let Some(section) = &args.only {
        command.args(["--only", section]);
    }
    tools::tell(ctx, &mut command)?;
    streamed("bench workers", command)?;
    Ok(ExitCode::SUCCESS)
}
