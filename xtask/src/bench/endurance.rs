//! `cargo xtask bench hostile` and `soak`: set up Envoy and PostgreSQL, build the modules, and run
//! the benchmark.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
    setup::{self, Part},
    tools, wasm,
};

/// 110,000 hostile connections to one real Envoy, while decent clients come
///
/// Takes some ten minutes, and one with --quick.
#[derive(Parser)]
#[command(name = "cargo xtask bench hostile")]
struct Hostile {
    #[command(flatten)]
    common: Common,
    /// So many connections instead of 110,000
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
}

/// Mixed load and random faults on one real Envoy: its count against what is open, and its memory
#[derive(Parser)]
#[command(name = "cargo xtask bench soak")]
struct Soak {
    #[command(flatten)]
    common: Common,
    /// So many minutes, if not 10
    #[arg(long, value_name = "N", conflicts_with_all = ["quick", "seconds"])]
    minutes: Option<u32>,
    /// So many seconds
    #[arg(long, value_name = "N", conflicts_with = "quick")]
    seconds: Option<u32>,
    /// Another load and other faults
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(clap::Args)]
struct Common {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Shorter
    #[arg(long)]
    quick: bool,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

type Numbers<'a> = &'a [(&'a str, Option<u64>)];

/// Runs the hostile clients.
pub fn hostile(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    parsed(args, |args: Hostile| {
        let connections = args.connections.map(u64::from);
        run(
            ctx,
            "hostile",
            &args.common,
            &[("--connections", connections)],
        )
    })
}

/// Runs the soak.
pub fn soak(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    parsed(args, |args: Soak| {
        let numbers = [
            ("--minutes", args.minutes.map(u64::from)),
            ("--seconds", args.seconds.map(u64::from)),
            ("--seed", args.seed),
        ];
        run(ctx, "soak", &args.common, &numbers)
    })
}

fn parsed<A: Parser>(args: &[String], run: impl FnOnce(A) -> Result<ExitCode>) -> Result<ExitCode> {
    let name = A::command().get_name().to_owned();
    match A::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(args) => run(args),
        Err(error) => {
            error.print()?;
            Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

fn run(ctx: &Context, name: &str, common: &Common, numbers: Numbers<'_>) -> Result<ExitCode> {
    setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
    wasm::build(ctx)?;
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", &format!("bench-{name}"), "--"]);
    // The benchmark runs in the root of the package, wherever this command was typed.
    if let Some(file) = &common.json {
        command.arg("--json").arg(checkout::absolute(file)?);
    }
    for (option, given) in [("--quick", common.quick), ("--strict", common.strict)] {
        command.args(given.then_some(option));
    }
    for (option, number) in numbers {
        if let Some(number) = number {
            command.args([*option, &number.to_string()]);
        }
    }
    tools::tell(ctx, &mut command)?;
    streamed(&format!("bench {name}"), command)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_said_once() {
        let soak = |words: &[&str]| Soak::try_parse_from(["soak"].iter().chain(words));
        assert_eq!(
            soak(&["--minutes", "60", "--seed", "7"]).unwrap().seed,
            Some(7)
        );
        assert!(soak(&["--quick", "--seconds", "5"]).is_err());
        let hostile = Hostile::try_parse_from(["hostile", "--connections", "5000", "--strict"]);
        assert_eq!(hostile.unwrap().connections, Some(5000));
    }
}
