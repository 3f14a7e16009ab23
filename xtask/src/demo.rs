//! The demo: a surge in front of a real PostgreSQL, with and without the plugin.

use std::process::ExitCode;

use anyhow::Result;

use crate::checkout::Context;

/// Runs the demo with its own arguments.
pub fn run(_ctx: &Context, _args: &[String]) -> Result<ExitCode> {
    eprintln!("error: the demo is not there yet");
    Ok(ExitCode::from(2))
}
