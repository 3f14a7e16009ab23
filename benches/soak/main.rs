//! Mixed load and random faults on one real Envoy, for as long as one likes.
//! `cargo xtask bench soak` runs it.

#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
mod faults;
#[path = "../files.rs"]
mod files;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/hostile/parts/mod.rs"]
mod hostile;
mod load;
mod look;
mod run;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use crate::common::table::Table;

/// What `cargo xtask bench soak` hands over.
#[derive(Debug, Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// One minute
    #[arg(long)]
    quick: bool,
    /// So many minutes, if not 10
    #[arg(long, conflicts_with_all = ["quick", "seconds"])]
    minutes: Option<u32>,
    /// So many seconds
    #[arg(long, conflicts_with = "quick")]
    seconds: Option<u32>,
    /// Another load and other faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

impl Args {
    fn lasts(&self) -> Duration {
        let minutes = self.minutes.unwrap_or(if self.quick { 1 } else { 10 });
        let seconds = self.seconds.unwrap_or(minutes.saturating_mul(60));
        Duration::from_secs(u64::from(seconds.max(1)))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    files::allow_many();
    println!("seed {}, {} s", args.seed, args.lasts().as_secs());
    let mut table = Table::begin("soak", run::COLUMNS);
    run::soak(&mut table, args.seed, args.lasts());
    println!(
        "\n{} A minute's value: looks at which tidegate_inflight was not what was open at the \
         upstreams.",
        table.verdict()
    );
    if let Some(Err(error)) = args.json.map(|file| table.write(&file, args.quick)) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(args.strict && table.missed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_ten_minutes_one_or_as_long_as_is_asked_for() {
        let lasts = |words: &[&str]| {
            let words = ["soak"].iter().chain(words);
            Args::try_parse_from(words).map(|args| args.lasts().as_secs())
        };
        assert_eq!(lasts(&[]).unwrap(), 600);
        assert_eq!(lasts(&["--quick"]).unwrap(), 60);
        assert_eq!(lasts(&["--minutes", "60"]).unwrap(), 3600);
        assert_eq!(lasts(&["--seconds", "90"]).unwrap(), 90);
        assert!(lasts(&["--quick", "--minutes", "2"]).is_err());
    }
}
