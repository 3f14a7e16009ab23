//! Runs the tests: under Node, and native with the real tools.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{
    checkout::Context,
    engine, fuzz,
    process::{NotReady, cargo, streamed, which},
    setup::{self, CHROMIUM, COMPILER, ENGINE, MARIADB, PROMETHEUS, PUBLISHING, Part},
    toolchain::{self, Need},
    tools, wasm as plugin,
};

/// Sets up what is missing, builds the plugin, and runs every test.
pub fn run(ctx: &Context, args: &[String]) -> Result<()> {
    let since = Instant::now();
    setup::ensure(ctx, &Part::ALL).context("step setup failed")?;
    plugin::build(ctx).context("step build failed")?;
    wasm(ctx, &[]).context("step wasm-test failed")?;
    native(ctx, args).context("step native tests failed")?;
    if COMPILER.is_there() {
        fuzz::run(ctx, &fuzz::Options::default()).context("step fuzz failed")?;
    }
    let optional = [
        (MARIADB.is_there(), &MARIADB),
        (tools::prometheus_bin(&ctx.checkout).is_some(), &PROMETHEUS),
        (CHROMIUM.is_there(), &CHROMIUM),
        (PUBLISHING.is_there(), &PUBLISHING),
        (engine::is_there(&ctx.checkout), &ENGINE),
        (COMPILER.is_there(), &COMPILER),
    ];
    let mut without = String::new();
    for (is_there, optional) in optional {
        if !is_there {
            ctx.ui.warn(&optional.loss());
            without = format!("{without}, but without {}", optional.name());
        }
    }
    eprintln!(
        "cargo xtask test: everything passed in {:.0} s (build, wasm tests, native tests, fuzz){without}",
        since.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs the tests that are marked for wasm.
pub fn wasm(ctx: &Context, args: &[String]) -> Result<()> {
    setup::ensure(ctx, &[Part::Wasm, Part::TestRunner])?;
    if which("node").is_none() {
        return Err(NotReady::new(
            "the wasm tests run under Node, which is missing; type: sudo apt-get install nodejs",
        ));
    }
    let toolchain = toolchain::ensure(ctx, Need::Build)?;
    let mut command = toolchain.cargo(ctx, "test", &["--lib", "--"]);
    command.args(args);
    command.env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
        tools::test_runner(&ctx.checkout),
    );
    streamed("wasm tests", command)
}

/// Runs the tests of the workspace; those that need real tools find them by variables.
fn native(ctx: &Context, args: &[String]) -> Result<()> {
    let mut command = cargo(ctx);
    command.args(["test", "--workspace", "--"]).args(args);
    tools::tell(ctx, &mut command)?;
    streamed("native tests", command)
}
