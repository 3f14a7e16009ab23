//! `cargo xtask bench overhead`: builds what it compares, builds and runs `benches/overhead`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
    setup::{self, Part},
    tools, wasm,
};

/// What tidegate costs in Envoy where nothing is wrong, beside Envoy's own filters and two that do
/// nothing
///
/// CPU time of a request, a connection and a gigabyte, the time until Envoy is ready, and the
/// modules' sizes. Keep the machine quiet meanwhile.
#[derive(Parser)]
#[command(name = "cargo xtask bench overhead")]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Only the sections with one of these names: http, tcp, bulk, start, size
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<String>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

/// Runs the benchmark.
pub fn run(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    let name = "cargo xtask bench overhead".to_owned();
    let args = match Args::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
    wasm::build(ctx)?;
    let noop = wasm::build_noop(ctx)?;
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", "bench-overhead", "--"]);
    command.arg("--noop").arg(noop);
    // The benchmark runs in the root of the package, wherever this command was typed.
    if let Some(file) = &args.json {
        command.arg("--json").arg(checkout::absolute(file)?);
    }
    for (option, given) in [("--quick", args.quick), ("--strict", args.strict)] {
        command.args(given.then_some(option));
    }
    for section in &args.only {
        command.args(["--only", section]);
    }
    tools::tell(ctx, &mut command)?;
    streamed("bench overhead", command)?;
    Ok(ExitCode::SUCCESS)
}
