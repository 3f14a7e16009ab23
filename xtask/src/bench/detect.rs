//! `cargo xtask bench detect`: builds and runs `benches/detect`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
};

/// How soon surges are seen, and how often where there are none: ours and four textbook rules
#[derive(Parser)]
#[command(name = "cargo xtask bench detect")]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replay every `t,count` file of this folder
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Fewer trials and shorter days
    #[arg(long)]
    quick: bool,
}

/// Runs the benchmark.
pub fn run(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    let name = "cargo xtask bench detect".to_owned();
    let args = match Args::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", "bench-detect", "--"]);
    // The benchmark runs in the root of the package, wherever this command was typed.
    if let Some(file) = &args.json {
        command.arg("--json").arg(checkout::absolute(file)?);
    }
    if let Some(dir) = &args.traces {
        command.arg("--traces").arg(checkout::absolute(dir)?);
    }
    if args.quick {
        command.arg("--quick");
    }
    streamed("bench detect", command)?;
    Ok(ExitCode::SUCCESS)
}
