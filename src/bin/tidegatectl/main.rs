//! `tidegatectl`: the companion of the plugin.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod check;
mod explain;
mod replay;
mod report;
mod schema;
mod source;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tidegate::build_info;

/// The companion of tidegate, which guards what is behind an Envoy against connection surges.
#[derive(Parser)]
#[command(name = "tidegatectl", version = version(), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with a configuration, wherever it is written.
    ///
    /// A file may be a plugin configuration, an Envoy bootstrap, listeners, or manifests for Istio
    /// or Envoy Gateway, in YAML or JSON. Exit: 0 when all are good, 1 with findings, 2 when a file
    /// can't be read.
    Check {
        /// The files; `-` is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Let a warning count as an error.
        #[arg(long)]
        strict: bool,
    },
    /// Write a post-mortem from the events in a log of Envoy.
    ///
    /// Exit: 0 when it is written, 1 when the log holds no event, 2 when it can't be read.
    Explain {
        /// The log; `-` is standard input.
        #[arg(value_name = "LOG")]
        log: PathBuf,
        /// How it is written.
        #[arg(long, value_enum, default_value_t)]
        format: explain::Format,
    },
    /// Say what the rules would have done with the arrivals of a trace.
    ///
    /// A trace is CSV with the columns `t,count` (Unix seconds, arrivals since the row before),
    /// `t,key,count` or `t,key,duration_s` (one row a connection), or an access log of Envoy, as
    /// text or JSON lines. Rules act as if they were enforced; only `off` is left out. Exit: 0 when
    /// it was replayed, 1 when nothing in it could be used or the configuration is wrong, 2 when a
    /// file can't be read.
    Replay {
        /// A plugin configuration, JSON or YAML; without it one rule for everything.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The trace; `-` is standard input.
        #[arg(value_name = "TRACE")]
        trace: PathBuf,
        /// How the result is written.
        #[arg(long, value_enum, default_value_t)]
        format: replay::Format,
    },
    /// Print every field of the plugin configuration: its JSON Schema, or a page to read.
    Schema {
        /// How it is written.
        #[arg(long, value_enum, default_value_t)]
        format: schema::Format,
    },
    /// Print a script that completes commands in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The version and the commit: `0.1.0 (0123456789ab)`.
fn version() -> String {
    format!("{} ({})", build_info::VERSION, build_info::COMMIT)
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check { files, strict } => check::run(&files, strict),
        Command::Explain { log, format } => explain::run(&log, format),
        Command::Replay {
            config,
            trace,
            format,
        } => replay::run(config.as_deref(), &trace, format),
        Command::Schema { format } => schema::run(format),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegatectl", &mut script);
            report::print(&script)
        }
    }
}
