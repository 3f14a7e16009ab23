//! The same surges before tidegate and before what else there is, on the real Envoy.
//! `cargo xtask bench surge` runs it.

mod bench;
mod chart;
mod clients;
mod everybody;
#[path = "../files.rs"]
mod files;
mod guards;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the tests look at the rest of it")]
#[path = "../../tests/simulation/model/mod.rs"]
mod model;
mod one_caller;
mod record;
mod service;
mod simulation;
#[path = "../table.rs"]
mod table;
mod talk;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    bench::{Bench, Stopped},
    table::{Row, Unmeasured},
};

/// What `cargo xtask bench surge` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the first section here
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Shorter acts, fewer rows, and the normal rate is told instead of learned
    #[arg(long)]
    quick: bool,
    /// Only the rows with one of these in `section/row`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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
    files::allow_many();
    let mut bench = Bench::new(args.quick, args.only.clone()).map_err(|error| error.to_string())?;
    let stopped = sections(&mut bench).err();
    write(args, &bench)?;
    if let Some(Stopped(signal)) = stopped {
        return Err(format!(
            "stopped by {signal}; everything that was started is gone"
        ));
    }
    let verdict = Verdict::of(bench.rows());
    println!("\n{}", verdict.text());
    Ok(verdict.code(args.strict))
}

/// Measures all of them.
fn sections(bench: &mut Bench) -> Result<(), Stopped> {
    one_caller::tcp(bench)?;
    one_caller::http(bench)?;
    everybody::more_of_all(bench)?;
    everybody::behind_one_address(bench)?;
    one_caller::postgres(bench)?;
    simulation::incidents(bench)?;
    Ok(())
}

fn write(args: &Args, bench: &Bench) -> Result<(), String> {
    let put = |file: &PathBuf, text: &str| {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).ok();
        }
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    if let Some(file) = &args.json {
        put(file, &bench.document())?;
    }
    if let Some(file) = &args.svg
        && let Some(rows) = bench.rows_of("tcp")
    {
        put(file, &chart::svg(rows, &bench.script()))?;
    }
    Ok(())
}

/// What came of all rows.
struct Verdict {
    wanted: usize,
    passed: usize,
    failed: usize,
}

impl Verdict {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut verdict = Self {
            wanted: 0,
            passed: 0,
            failed: 0,
        };
        for row in rows {
            match &row.result {
                Ok(measured) => {
                    verdict.wanted += measured.wanted.len();
                    let passes = measured.wanted.iter().filter(|wanted| wanted.passes());
                    verdict.passed += passes.count();
                }
                Err(Unmeasured::Failed(_)) => verdict.failed += 1,
                Err(Unmeasured::Impossible(_)) => {}
            }
        }
        verdict
    }

    fn text(&self) -> String {
        let Self {
            wanted,
            passed,
            failed,
        } = self;
        let failed = match failed {
            0 => String::new(),
            failed => format!(" {failed} rows failed."),
        };
        format!(
            "{passed} of {wanted} numbers as wanted.{failed} \"-\": never, or not measured. \
             Times are of those who were served.\nCalm and surge: normal clients only; attempts, \
             refused and peak: everybody. Again: seconds after the surge."
        )
    }

    fn code(&self, strict: bool) -> ExitCode {
        let missed = strict && self.passed < self.wanted;
        ExitCode::from(u8::from(missed || self.failed > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Bar, Measured, Wanted};

    #[test]
    fn rows_are_given_with_commas_or_one_by_one() {
        let args = Args::try_parse_from(["bench", "--only", "tcp/none,http", "--only", "shared"]);
        assert_eq!(args.unwrap().only, ["tcp/none", "http", "shared"]);
    }

    #[test]
    fn a_miss_fails_only_when_asked_to_and_a_failed_row_always_does() {
        let row = |result| Row {
            slug: "row",
            name: String::new(),
            result,
        };
        let value = |value| {
            let wanted = Wanted {
                what: "it",
                value: Some(value),
                bar: Bar::AtMost(1.0),
            };
            Ok(Measured {
                wanted: vec![wanted],
                ..Measured::default()
            })
        };
        let code = |results: Vec<_>, strict| {
            let rows: Vec<Row> = results.into_iter().map(row).collect();
            Verdict::of(rows.iter()).code(strict)
        };
        let impossible = || Err(Unmeasured::Impossible(String::new()));
        let failed = || Err(Unmeasured::Failed(String::new()));
        assert_eq!(
            code(vec![value(1.0), impossible()], true),
            ExitCode::SUCCESS
        );
        assert_eq!(code(vec![value(2.0)], false), ExitCode::SUCCESS);
        assert_eq!(code(vec![value(2.0)], true), ExitCode::from(1));
        assert_eq!(code(vec![value(1.0), failed()], false), ExitCode::from(1));
    }
}
