//! `cargo xtask bench surge`: sets up what it compares, builds and runs `benches/surge`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
    setup::{self, Part},
    tools, wasm,
};

/// The same surges before tidegate, Envoy's own limits, HAProxy and PgBouncer
///
/// Takes 5 minutes with --quick, and several times that without. Where it may, it installs Debian's packages haproxy
/// and pgbouncer, which Debian also starts as services; rows of what is missing are left out.
#[derive(Parser)]
#[command(name = "cargo xtask bench surge")]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to draw the surge over TCP, if not in target/bench/surge.svg
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Shorter acts, fewer rows, and tidegate is told the normal rate instead of learning it
    #[arg(long)]
    quick: bool,
    /// Only the rows with one of these in `section/row`: tcp, http, everybody, shared, postgres,
    /// simulation; tcp/none, tidegate, ...
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

/// Runs the benchmark.
pub fn run(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    let name = "cargo xtask bench surge".to_owned();
    let args = match Args::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    setup::ensure(
        ctx,
        &[Part::Envoy, Part::Postgres, Part::HaProxy, Part::PgBouncer],
    )?;
    wasm::build(ctx)?;
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", "bench-surge", "--"]);
    for (option, file) in [("--json", &args.json), ("--svg", &Some(svg(ctx, &args)))] {
        // The benchmark runs in the root of the package, wherever this command was typed.
        if let Some(file) = file {
            command.arg(option).arg(checkout::absolute(file)?);
        }
    }
    for (option, given) in [("--quick", args.quick), ("--strict", args.strict)] {
        command.args(given.then_some(option));
    }
    for row in &args.only {
        command.args(["--only", row]);
    }
    tools::tell(ctx, &mut command)?;
    streamed("bench surge", command)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the chart goes.
fn svg(ctx: &Context, args: &Args) -> PathBuf {
    let usual = || ctx.checkout.target.join("bench/surge.svg");
    args.svg.clone().unwrap_or_else(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_given_with_commas_or_one_by_one() {
        let words = [
            "bench",
            "--only",
            "tcp/none,http",
            "--quick",
            "--only",
            "shared",
        ];
        let args = Args::try_parse_from(words).unwrap();
        assert_eq!(args.only, ["tcp/none", "http", "shared"]);
        assert!(args.quick && !args.strict);
    }
}
