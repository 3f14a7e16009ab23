//! Benchmarks with no options of their own.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::{
    checkout::{self, Context},
    process::{cargo, streamed},
};

/// A benchmark that is the example `bench-NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    pub name: &'static str,
    /// As it is typed.
    pub command: &'static str,
    pub about: &'static str,
}

#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
}

/// Builds and runs one that needs nothing but this checkout.
pub fn run(ctx: &Context, bench: Plain, args: &[String]) -> Result<ExitCode> {
    prepared(ctx, bench, args, |_, _| Ok(()))
}

/// Builds and runs one for which something is to be made ready first; the command is told of it.
pub fn prepared(
    ctx: &Context,
    bench: Plain,
    args: &[String],
    prepare: impl FnOnce(&Context, &mut Command) -> Result<()>,
) -> Result<ExitCode> {
    let parser = Args::command().name(bench.command).about(bench.about);
    let words = std::iter::once(bench.command).chain(args.iter().map(String::as_str));
    let args = parser
        .try_get_matches_from(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let mut command = cargo(ctx);
    command.args(["run", "--quiet", "--profile", "measure"]);
    command.args(["--example", &format!("bench-{}", bench.name), "--"]);
    // The benchmark runs in the root of the package, wherever this command was typed.
    if let Some(file) = &args.json {
        command.arg("--json").arg(checkout::absolute(file)?);
    }
    command.args(args.quick.then_some("--quick"));
    prepare(ctx, &mut command)?;
    streamed(&format!("bench {}", bench.name), command)?;
    Ok(ExitCode::SUCCESS)
}
