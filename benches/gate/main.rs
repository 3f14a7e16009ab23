//! What one arrival costs while all is calm, beside a check of `governor` and an observation of
//! `pingora-limits`. `cargo xtask bench gate` runs it.

#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;

use std::{
    fs,
    hint::black_box,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use criterion::{
    Criterion,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use governor::{Quota, RateLimiter, clock::FakeRelativeClock};
use pingora_limits::rate::Rate;
use serde_json::Value;
use tidegate::store::MemoryStore;

use crate::common::{
    processor::worked,
    table::{Row, Table, Wanted},
    worker::{Callers, Clock, Kind, LAP, Limited, Worker},
};

/// What `cargo xtask bench gate` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where criterion keeps what it measured
    #[arg(long, default_value = "target/bench/criterion")]
    criterion: PathBuf,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
}

/// So many arrive in a lap of 100 ms.
const A_LAP: u32 = 2_000;
/// As many callers.
const CALLERS: u32 = 100;

/// What is measured: its name, and what makes one ready.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

const OURS: [Case; 4] = [
    ("a request", || ours(Kind::Request, Limited::Nothing)),
    ("a connection", || ours(Kind::Connection, Limited::Nothing)),
    ("a request under limits.inflight", || {
        ours(Kind::Request, Limited::Inflight)
    }),
    ("a connection under limits.inflight", || {
        ours(Kind::Connection, Limited::Inflight)
    }),
];

/// The faster of these is what an arrival is compared with.
const BESIDE: [Case; 2] = [
    ("governor: check", governor_check),
    ("pingora-limits: observe", pingora_observe),
];

const TOLD: [Case; 2] = [
    ("governor: check of a key", governor_check_key),
    ("governor: check without a clock", governor_without_clock),
];

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
    let (rounds, warm_up, span) = if args.quick {
        (2, 200, 500)
    } else {
        (5, 500, 2_000)
    };
    let cases = || OURS.into_iter().chain(BESIDE).chain(TOLD);
    let mut least = [f64::INFINITY; OURS.len() + BESIDE.len() + TOLD.len()];
    // Round after round, so that whatever else this machine does hits all of them alike.
    for _ in 0..rounds {
        let mut criterion = Criterion::default()
            .with_measurement(Processor(WallTime))
            .output_directory(&args.criterion)
            .warm_up_time(Duration::from_millis(warm_up))
            .measurement_time(Duration::from_millis(span))
            .sample_size(50)
            .without_plots();
        for ((name, ready), least) in cases().zip(&mut least) {
            let mut work = ready();
            criterion.bench_function(&slug(name), |bencher| bencher.iter(&mut work));
            *least = least.min(median(&args.criterion, name)?);
        }
    }
    let (ours, others) = least.split_at(OURS.len());
    let (beside, told) = others.split_at(BESIDE.len());
    let reference = beside.iter().copied().fold(f64::INFINITY, f64::min);
    println!();
    let mut table = Table::begin("gate", ["ratio", "ns", "beside"]);
    for ((name, _), ns) in OURS.iter().zip(ours) {
        table.add(Row {
            case: (*name).to_owned(),
            unit: "ns",
            wanted: Wanted::AtMost(1.0),
            values: [Some(ns / reference), Some(*ns), Some(reference)],
        });
    }
    for ((name, _), ns) in BESIDE.iter().zip(beside).chain(TOLD.iter().zip(told)) {
        table.add(Row {
            case: (*name).to_owned(),
            unit: "ns",
            wanted: Wanted::Told,
            values: [Some(ns / reference), Some(*ns), Some(reference)],
        });
    }
    println!(
        "\n{} The least median of {rounds} rounds. An arrival is counted, decided and ended, with \
         its share of the ticks; {CALLERS} callers, {} a second.",
        table.verdict(),
        A_LAP * 10
    );
    if let Some(file) = &args.json {
        table.write(file, args.quick)?;
    }
    Ok(())
}

/// What criterion measures by: the time on a processor.
struct Processor(WallTime);

impl Measurement for Processor {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        worked()
    }

    fn end(&self, began: Duration) -> Duration {
        worked() - began
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

/// A name that is a folder's, too.
fn slug(name: &str) -> String {
    name.replace([' ', ':', '.'], "_")
}

/// What criterion found for a case, in ns.
fn median(folder: &Path, name: &str) -> Result<f64, String> {
    let file = folder.join(slug(name)).join("new/estimates.json");
    let read = fs::read(&file).map_err(|error| error.to_string());
    let found = read.and_then(|bytes| {
        let estimates: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let median = estimates["median"]["point_estimate"].as_f64();
        median.ok_or_else(|| "no median in it".to_owned())
    });
    found.map_err(|error| format!("{}: {error}", file.display()))
}

/// An arrival at a rule that has been calm for some time.
fn ours(kind: Kind, limited: Limited) -> Box<dyn FnMut()> {
    let rate = f64::from(A_LAP * 10);
    let mut worker = Worker::new(0, &MemoryStore::default(), "rule", kind, limited, rate);
    let (mut clock, mut callers) = (Clock::new(), Callers::new(CALLERS));
    let mut left = A_LAP;
    let mut arrive = move || {
        left -= 1;
        if left == 0 {
            left = A_LAP;
            worker.tick(clock.pass(LAP));
            worker.assert_calm();
        }
        worker.arrive(&callers.next(), clock.now());
    };
    (0..100 * A_LAP).for_each(|_| arrive());
    Box::new(arrive)
}

/// A limit that is never reached.
fn quota() -> Quota {
    Quota::per_second(NonZeroU32::MAX)
}

fn governor_check() -> Box<dyn FnMut()> {
    let limiter = RateLimiter::direct(quota());
    Box::new(move || assert!(limiter.check().is_ok()))
}

fn governor_without_clock() -> Box<dyn FnMut()> {
    let clock = FakeRelativeClock::default();
    let limiter = RateLimiter::direct_with_clock(quota(), clock.clone());
    let step = Duration::from_secs(1) / (A_LAP * 10);
    Box::new(move || {
        clock.advance(step);
        assert!(limiter.check().is_ok());
    })
}

fn governor_check_key() -> Box<dyn FnMut()> {
    let limiter = RateLimiter::hashmap(quota());
    let mut callers = Callers::new(CALLERS);
    Box::new(move || assert!(limiter.check_key(&callers.next()).is_ok()))
}

fn pingora_observe() -> Box<dyn FnMut()> {
    let rate = Rate::new(Duration::from_secs(1));
    let mut callers = Callers::new(CALLERS);
    Box::new(move || {
        black_box(rate.observe(&callers.next(), 1));
    })
}
