//! Runs the real Envoy with a configuration of the user's.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    checkout::{Context, absolute},
    process::{NotReady, shown, tool},
    setup::{self, Part},
    tools, wasm,
};

/// Arguments that say how this Envoy shares the machine with others.
const BASE_ID: [&str; 4] = [
    "--base-id",
    "--use-dynamic-base-id",
    "--restart-epoch",
    "--disable-hot-restart",
];

/// Builds the plugin, then becomes Envoy: same process, so signals and the exit code are Envoy's.
pub fn run(ctx: &Context, config: &Path, args: &[String]) -> Result<()> {
    let config = find(&ctx.checkout.root, config)?;
    setup::ensure(ctx, &[Part::Envoy])?;
    wasm::build(ctx)?;
    let mut command = tool(tools::envoy_bin(&ctx.checkout)?);
    command.current_dir(&ctx.checkout.root);
    command.arg("-c").arg(config);
    // Two Envoys on one machine must not meet in the shared memory of hot restart.
    if !args
        .iter()
        .any(|arg| BASE_ID.iter().any(|name| arg.starts_with(name)))
    {
        command.arg("--disable-hot-restart");
    }
    become_it(command.args(args))
}

/// The configuration as the user named it: from where they stand, else from the checkout.
fn find(root: &Path, config: &Path) -> Result<PathBuf> {
    let candidates = [absolute(config)?, root.join(config)];
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(NotReady::new(format!(
            "there is no configuration {}; give the path of an Envoy bootstrap",
            config.display()
        ))),
    }
}

/// Replaces this process by the command.
fn become_it(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(command)))
}
