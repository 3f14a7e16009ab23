//! `cargo xtask bench memory`: sets up Envoy, builds the module, and runs `benches/memory`.

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

/// Runs the benchmark.
pub fn run(ctx: &Context, args: &[String]) -> Result<ExitCode> {
    plain::prepared(ctx, MEMORY, args, |ctx, command| {
        setup::ensure(ctx, &[Part::Envoy, Part::Postgres])?;
        wasm::build(ctx)?;
        tools::tell(ctx, command)
    })
}
