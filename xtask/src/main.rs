//! The repository's own commands: `cargo xtask help` lists them.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod check;
mod checkout;
mod copied;
mod demo;
mod deny;
mod engine;
mod envoy;
mod fuzz;
mod module;
mod package;
mod process;
mod setup;
#[cfg(test)]
mod testing;
mod tests;
mod toolchain;
mod tools;
mod ui;
mod wasm;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{checkout::Context, process::NotReady, setup::Part};

/// The repository's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

/// One command of the repository.
#[derive(Subcommand)]
enum Commands {
    /// Set up every tool: Envoy, PostgreSQL, MariaDB, the wasm target, the wasm test runner
    Setup,
    /// Build target/tidegate/tidegate.wasm and target/tidegate/tidegate-inspect.wasm
    Build,
    /// From nothing to a surge in front of a real PostgreSQL, with and without the plugin
    Demo(demo::Options),
    /// Build the plugin and run the real Envoy with a configuration
    Envoy {
        /// Envoy's bootstrap; paths inside it start at the checkout
        config: std::path::PathBuf,
        /// Further arguments for Envoy
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build what a release consists of into target/package, the same bytes each time
    Package(package::Options),
    /// Formatting, lints for both targets, documentation, dependencies
    Check,
    /// Licences, duplicates, sources and known holes of what the project depends on
    Deny,
    /// Set up, build, and run every test
    Test {
        /// Arguments for the native tests, a name for example
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Drive the fuzz targets with libFuzzer
    Fuzz(fuzz::Options),
    /// Run the tests marked for wasm under Node
    WasmTest {
        /// Arguments for the test runner, a name for example
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run a benchmark, or list them
    Bench {
        /// Which one
        name: Option<String>,
        /// What that benchmark understands: `--help` tells
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// 0: done. 1: something failed. 2: wrong usage, or a tool is missing and could not be set up.
fn main() -> ExitCode {
    let cli = Cli::parse();
    match Context::from_env().and_then(|ctx| run(&ctx, cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<NotReady>() { 2 } else { 1 })
        }
    }
}

/// Runs one command.
fn run(ctx: &Context, command: Commands) -> Result<ExitCode> {
    match command {
        Commands::Setup => {
            setup::forget_what_was_skipped(ctx)?;
            setup::ensure(ctx, &Part::ALL)?;
            eprintln!("everything is set up in {}", ctx.checkout.tools.display());
        }
        Commands::Build => {
            wasm::build(ctx)?;
        }
        Commands::Demo(options) => return demo::run(ctx, &options),
        Commands::Envoy { config, args } => envoy::run(ctx, &config, &args)?,
        Commands::Package(options) => package::run(ctx, &options)?,
        Commands::Check => check::run(ctx)?,
        Commands::Deny => deny::run(ctx)?,
        Commands::Test { args } => tests::run(ctx, &args)?,
        Commands::Fuzz(options) => fuzz::run(ctx, &options)?,
        Commands::WasmTest { args } => tests::wasm(ctx, &args)?,
        Commands::Bench { name, args } => return bench::run(ctx, name.as_deref(), &args),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod cli_tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// All files of a folder and the folders in it.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| match path.is_dir() {
                true => files(&path),
                false => vec![path],
            })
            .collect()
    }

    #[test]
    fn every_command_of_the_readme_the_documentation_and_the_files_to_copy_exists() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let mut pages = vec![root.join("README.md")];
        pages.extend(
            ["docs", "envoy"]
                .iter()
                .flat_map(|name| files(&root.join(name))),
        );
        let mut count = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            let commands = text.split("cargo xtask ").skip(1);
            for command in commands.filter_map(|rest| rest.split(['`', '#', '\n']).next()) {
                let words = ["xtask"].into_iter().chain(command.split_whitespace());
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{}: cargo xtask {command}: {error}", page.display());
                }
                count += 1;
            }
        }
        assert!(count >= 30, "{count}");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on() {
        let cli = Cli::try_parse_from(["xtask", "test", "--", "surge", "--nocapture"]).unwrap();
        let Commands::Test { args } = cli.command else {
            panic!("not the command `test`");
        };
        assert_eq!(args, ["surge", "--nocapture"]);
    }
}
