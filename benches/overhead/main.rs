//! What tidegate costs where nothing is wrong, beside Envoy's own filters and two that do nothing, in
//! the real Envoy. `cargo xtask bench overhead` runs it.

mod contenders;
mod drive;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
mod rounds;
mod sections;
#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
#[path = "../table.rs"]
mod table;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use serde_json::{Value, json};

use crate::table::{Row, Section, Wanted};

/// What `cargo xtask bench overhead` hands over.
#[derive(Parser)]
struct Args {
    /// The module that does nothing, in Rust
    #[arg(long)]
    noop: PathBuf,
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Only the sections with one of these names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut done = Vec::new();
    for (name, measure) in sections::ALL {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            eprintln!("> {name}");
            let (section, rows) = measure(&args.noop, args.quick);
            section.print();
            rows.iter().for_each(|row| section.print_row(row));
            done.push((section, rows));
        }
    }
    if let Some(file) = &args.json
        && let Err(error) = fs::write(file, document(&done, args.quick))
    {
        eprintln!("error: {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    let measured = done
        .iter()
        .flat_map(|(_, rows)| rows)
        .flat_map(|row| &row.result);
    let wanted: Vec<&Wanted> = measured.flat_map(|measured| &measured.wanted).collect();
    let passed = wanted.iter().filter(|wanted| wanted.passes()).count();
    println!(
        "\n{passed} of {} numbers as wanted. CPU times are of Envoy's one worker; added: beside no \
         filter in the same\nround, the median of all rounds, and the middle half of them.",
        wanted.len()
    );
    ExitCode::from(u8::from(args.strict && passed < wanted.len()))
}

/// Everything as JSON.
fn document(sections: &[(Section, Vec<Row>)], quick: bool) -> String {
    let sections = sections.iter().map(|(section, rows)| section.json(rows));
    let document: Value = json!({
        "bench": "overhead",
        "version": tidegate::build_info::VERSION,
        "commit": tidegate::build_info::COMMIT,
        "quick": quick,
        "sections": sections.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}
