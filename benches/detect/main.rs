//! How soon surges are seen, and how often where there are none: the detector and four textbook
//! rules on the same arrivals. `cargo xtask bench detect` runs it.

mod cases;
#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
mod rivals;
mod traces;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{cases::Effort, common::table::Table, rivals::NAMES};

/// A line of the table, with a column for each rule.
type Row = common::table::Row<{ NAMES.len() }>;

/// What `cargo xtask bench detect` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Replay every `t,count` file of this folder
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Fewer trials and shorter days
    #[arg(long)]
    quick: bool,
    /// Only the cases with this in their group's name: delay, false, outage, leaving, drift,
    /// lasting, traces, young
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let effort = if args.quick {
        Effort {
            trials: 40,
            days: 2,
        }
    } else {
        Effort {
            trials: 200,
            days: 30,
        }
    };
    let mut table = Table::begin("detect", NAMES);
    let mut tell = |row: Row| table.add(row);
    let wanted = |group: &str| args.only.as_ref().is_none_or(|only| group.contains(only));
    // First, while the process has done nothing else: it also measures memory.
    if wanted("traces") {
        match &args.traces {
            Some(dir) => traces::rows(dir, &mut tell)
                .map_err(|error| format!("{}: {error}", dir.display()))?,
            None if args.quick => {}
            None => traces::made_up_speed(&mut tell),
        }
    }
    if wanted("delay") {
        cases::delay_rows(effort, &mut tell);
    }
    if wanted("outage") {
        cases::outage_rows(effort, &mut tell);
    }
    if wanted("leaving") {
        cases::leaving_rows(effort, &mut tell);
    }
    if wanted("lasting") {
        cases::lasting_rows(&mut tell);
    }
    if wanted("drift") {
        cases::drift_rows(effort, &mut tell);
    }
    if wanted("young") {
        cases::young_rows(effort, &mut tell);
    }
    if wanted("false") {
        cases::false_alarm_rows(effort, &mut tell);
    }
    println!(
        "\n{}\n\
         (*) Counts alone tell nothing of the upstream: taken as full above 1.5 x the highest \
         minute before.",
        table.verdict()
    );
    if let Some(file) = &args.json {
        table.write(file, args.quick)?;
    }
    Ok(())
}
