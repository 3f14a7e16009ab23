//! What one arrival costs with more rules, more callers and more workers: in the real Envoy, and in
//! the engine alone. `cargo xtask bench slope` runs it.

#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
#[path = "../overhead/contenders.rs"]
mod contenders;
#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
#[path = "../overhead/drive.rs"]
mod drive;
mod envoy;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the other benchmark uses the rest of it")]
#[path = "../overhead/rounds.rs"]
mod rounds;
mod rules;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tidegate::store::MemoryStore;

use crate::{
    common::{
        processor::timed,
        table::{Row, Table, Wanted},
        worker::{Callers, Clock, Kind, LAP, Limited, Worker},
    },
    rules::{By, Rules},
};

/// What `cargo xtask bench slope` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
}

/// So many arrive in each lap of 100 ms.
const A_LAP: u32 = 2_000;
const RATE_PER_S: f64 = A_LAP as f64 * 10.0;
/// No more than so much above the first of a row of cases.
const FLAT: Wanted = Wanted::AtMost(1.2);
/// In Envoy it is judged.
const TOLD: (&str, Wanted) = ("an arrival", Wanted::Told);

/// What can be measured lap by lap.
trait Lapped {
    /// One lap: how long its arrivals took, and its ticks.
    fn lap(&mut self) -> [Duration; 2];
}

fn main() -> ExitCode {
    let args = Args::parse();
    let laps = if args.quick { 100 } else { 1_000 };
    let mut table = Table::begin("slope", ["ratio", "ns", "of"]);
    envoy::slopes(&mut table, args.quick);
    for by in By::ALL {
        let cases = [1, 8, 64].map(|count| {
            let name = format!("{count} rules by {}", by.name());
            (name, Rules::new(by, count))
        });
        slope(
            &mut table,
            laps,
            cases,
            [TOLD, ("tick of each", Wanted::Told)],
        );
    }
    for (kind, name) in [
        (Kind::Request, "requests"),
        (Kind::Connection, "connections"),
    ] {
        let cases = [10, 1_000, 1_000_000].map(|callers| {
            let name = format!("{name} of {callers} callers");
            (name, Workers::new(1, callers, kind, Limited::Nothing))
        });
        slope(&mut table, laps, cases, [TOLD, ("tick", Wanted::Told)]);
    }
    for (limited, name) in [
        (Limited::Nothing, "no limit"),
        (Limited::Inflight, "limits.inflight"),
    ] {
        let cases = [1, 8, 64].map(|workers| {
            let name = format!("{workers} workers, {name}");
            (name, Workers::new(workers, 100, Kind::Request, limited))
        });
        let parts = [("an arrival", FLAT), ("tick of one", Wanted::Told)];
        slope(&mut table, laps, cases, parts);
    }
    println!(
        "\n{} In Envoy: what tidegate adds to the CPU time of a request or connection, the median of \
         all rounds.\nThe rest is the engine alone, the median of {laps} laps of {A_LAP} arrivals, each \
         beside the same\nlap of the first case.",
        table.verdict()
    );
    match args.json.map(|file| table.write(&file, args.quick)) {
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Measures all cases lap by lap, so that whatever else this machine does hits all of them alike, and
/// compares them with the first.
fn slope<const N: usize>(
    table: &mut Table<3>,
    laps: usize,
    mut cases: [(String, impl Lapped); N],
    parts: [(&str, Wanted); 2],
) {
    let mut found: [Vec<[f64; 2]>; N] = [const { Vec::new() }; N];
    for lap in 0..laps + laps / 4 {
        for ((_, case), found) in cases.iter_mut().zip(&mut found) {
            let [arrivals, ticks] = case.lap().map(|took| took.as_secs_f64() * 1e9);
            if lap >= laps / 4 {
                found.push([arrivals / f64::from(A_LAP), ticks]);
            }
        }
    }
    let first = &found[0];
    let ratios = |found: &[[f64; 2]], what: usize| {
        let pairs = found.iter().zip(first);
        median(pairs.map(|(own, first)| own[what] / first[what]).collect())
    };
    let all = |found: &[[f64; 2]], what: usize| median(found.iter().map(|own| own[what]).collect());
    for (what, (part, wanted)) in parts.into_iter().enumerate() {
        for (place, ((name, _), own)) in cases.iter().zip(&found).enumerate() {
            table.add(Row {
                case: format!("{name}: {part}"),
                unit: "ns",
                wanted: if place == 0 { Wanted::Told } else { wanted },
                values: [ratios(own, what), all(own, what), all(first, what)],
            });
        }
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

/// Workers that share one rule; the first is measured.
struct Workers {
    measured: Worker,
    others: Vec<Worker>,
    callers: Callers,
    clock: Clock,
}

/// So many come to each of the others in a lap.
const FEW: u32 = 4;

impl Workers {
    fn new(count: u32, callers: u32, kind: Kind, limited: Limited) -> Self {
        let store = MemoryStore::default();
        let rate = RATE_PER_S + f64::from((count - 1) * FEW * 10);
        let worker = |number| Worker::new(number, &store, "rule", kind, limited, rate);
        Self {
            measured: worker(0),
            others: (1..count).map(worker).collect(),
            callers: Callers::new(callers),
            clock: Clock::new(),
        }
    }
}

impl Lapped for Workers {
    fn lap(&mut self) -> [Duration; 2] {
        let now = self.clock.pass(LAP);
        for other in &mut self.others {
            other.tick(now);
            (0..FEW).for_each(|_| other.arrive(b"10.0.0.1", now));
        }
        let ticks = timed(|| self.measured.tick(now));
        let arrivals = timed(|| {
            for _ in 0..A_LAP {
                self.measured.arrive(&self.callers.next(), now);
            }
        });
        self.measured.assert_calm();
        [arrivals, ticks]
    }
}
