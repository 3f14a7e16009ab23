//! What it costs many workers to keep one limit together, and how well they do: leases and four other
//! ways in a model, and the real Envoy in a storm. `cargo xtask bench workers` runs it.

#[path = "../files.rs"]
mod files;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
mod leases;
mod model;
mod rivals;
mod storm;
mod table;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    leases::Leases,
    model::{Arrivals, Scheme},
    rivals::{AskEachTime, Proportional, Published, Split},
    table::Row,
};

/// What `cargo xtask bench workers` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Shorter runs
    #[arg(long)]
    quick: bool,
    /// Only the section of that name: model, storm
    #[arg(long)]
    only: Option<String>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let mut rows: Vec<Row> = Vec::new();
    let mut tell = |row: Row| {
        row.print();
        rows.push(row);
    };
    let wanted = |section: &str| args.only.as_ref().is_none_or(|only| section.contains(only));
    table::head();
    if wanted("model") {
        let seconds = if args.quick { 5 } else { 20 };
        for workers in [4, 16, 64] {
            tokens(workers, seconds, &mut tell);
            tell(calm_slots(workers, seconds));
        }
    }
    if wanted("storm") {
        files::allow_many();
        tell(storm::row(args.quick));
    }
    let judged: Vec<bool> = rows.iter().flat_map(Row::verdicts).collect();
    let passed = judged.iter().filter(|passes| **passes).count();
    println!(
        "\n{passed} of {} numbers as wanted. \"*\": not as wanted.\n\
         Excess: of the worst trailing second, in percent of the limit. Shared: reads of what the \
         workers share, each with its write, for each arrival. Lost: of what the limit would allow.",
        judged.len()
    );
    if let Some(file) = &args.json {
        fs::write(file, table::document(&rows, args.quick))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(ExitCode::from(u8::from(
        args.strict && passed < judged.len(),
    )))
}

/// 1,000 a second are admitted of 20,000 that come.
fn tokens(workers: usize, seconds: u64, tell: &mut impl FnMut(Row)) {
    const BUDGET: u32 = 1_000;
    let arrivals = Arrivals {
        per_s: 20_000.0,
        workers,
        seconds,
    };
    let mut leases = Leases::of_tokens(workers, BUDGET);
    let mut each = AskEachTime::new(BUDGET);
    let mut split = Split::new(workers, BUDGET);
    let mut published = Published::new(workers, BUDGET);
    let mut proportional = Proportional::new(workers, BUDGET);
    let shared = if workers > 16 { 0.2 } else { 0.1 };
    let schemes: [(&str, &mut dyn Scheme, bool); 5] = [
        ("leases", &mut leases, true),
        ("a compare-and-set each time", &mut each, false),
        ("a fixed part for each worker", &mut split, false),
        ("counters told every 100 ms", &mut published, false),
        ("proportional parts every 100 ms", &mut proportional, false),
    ];
    for (name, scheme, ours) in schemes {
        let run = model::run(&arrivals, scheme);
        let row = Row::new(format!("{workers} workers, 1,000/s of 20,000/s: {name}"))
            .number("excess_percent", run.excess_percent(BUDGET))
            .number("shared_per_arrival", run.shared_per_arrival())
            .number("lost_percent", run.lost_percent(BUDGET));
        tell(if ours {
            row.at_most("excess_percent", 0.0)
                .at_most("shared_per_arrival", shared)
                .at_most("lost_percent", 1.0)
        } else {
            row
        });
    }
}

/// 20,000 a second of 10 ms each, where there are ten times the slots that they need.
fn calm_slots(workers: usize, seconds: u64) -> Row {
    let arrivals = Arrivals {
        per_s: 20_000.0,
        workers,
        seconds,
    };
    let mut leases = Leases::of_slots(workers, 2_000);
    let run = model::run(&arrivals, &mut leases);
    Row::new(format!("{workers} workers, 200 of 2,000 slots: leases"))
        .number("shared_per_arrival", run.shared_per_arrival())
        .number("refused", run.refused() as f64)
        .at_most("shared_per_arrival", 0.1)
        .at_most("refused", 0.0)
}
