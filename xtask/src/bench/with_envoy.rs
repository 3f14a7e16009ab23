//! `cargo xtask bench memory` and `slope`: set up Envoy, build the module, and run the benchmark.

use std::process::ExitCode;

use anyhow::Result;

use super::plain::{self, Plain};
use crate::{
    checkout::Context,
    setup::{self, Part},
    tools, wasm,
};

const MEMORY: Plain = Plain {
    name: "memory",
    command: "cargo xtask bench memory",
    about: "What one virtual machine of the real Envoy holds after 1,000,000 callers, and how long it \
        takes to load the module",
};

const SLOPE: Plain = Plain {
    name: "slope",
    command: "cargo xtask bench slope",
    about: "What one arrival costs with 1 to 64 rules, 10 to 1,000,000 callers, and 1 to 64 workers: in \
        the real Envoy, and in the engine alone",
};

/// Runs the benchmark of the memory.
pub fn memory(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    run(ctx, MEMORY, args)
}

/// Runs that of the slope.
pub fn slope(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    run(ctx, SLOPE, args)
}

fn run(ctx: &Context, bench: Plain, args: &[String]) -> Result<ExitCode> {
    plain::prepared(ctx, bench, args, |ctx, command| {
        setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
        wasm::build(ctx)?;
        tools::tell(ctx, command)
    })
}
