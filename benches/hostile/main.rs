//! A hundred thousand hostile connections to one real Envoy, while decent clients come.
//! `cargo xtask bench hostile` runs it.

#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../files.rs"]
mod files;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/hostile/parts/mod.rs"]
mod hostile;

use std::{path::PathBuf, process::ExitCode, thread, time::Duration};

use clap::Parser;

use crate::{
    common::table::{Row, Table, Wanted},
    harness::metrics::Metrics,
    hostile::{
        crowd::{Decent, Stage, come},
        stand::{Stand, over_all},
        vices::{VICES, Vice},
    },
};

/// What `cargo xtask bench hostile` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// 10,000 connections, and the plugin has no time to learn who is normal
    #[arg(long)]
    quick: bool,
    /// So many connections instead of 110,000
    #[arg(long)]
    connections: Option<u32>,
    /// Fail when a number is not as wanted
    #[arg(long)]
    strict: bool,
}

const WORKERS: u32 = 4;
/// So many are open at once.
const AT_ONCE: usize = 200;
/// A decent client comes to each door so often.
const GAP: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_millis(300);

const COLUMNS: [&str; 6] = ["value", "came", "arrivals", "admitted", "rejected", "MiB"];
type Rows = Table<6>;

fn main() -> ExitCode {
    let args = Args::parse();
    files::allow_many();
    let connections = args
        .connections
        .unwrap_or(if args.quick { 10_000 } else { 110_000 });
    let mut table = Table::begin("hostile", COLUMNS);
    run(&mut table, connections, args.quick);
    println!(
        "\n{} A vice's value is the part of the decent clients that was served meanwhile, at all \
         four doors.",
        table.verdict()
    );
    if let Some(Err(error)) = args.json.map(|file| table.write(&file, args.quick)) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(args.strict && table.missed()))
}

fn run(table: &mut Rows, connections: u32, quick: bool) {
    let stage = Stage::free();
    let stand = Stand::start(WORKERS, &stage);
    let decent = Decent::come(stand.doors, GAP);
    // As long as it takes until the decent ones are known to be normal, and a little more.
    let learning = if quick { 5 } else { 66 };
    thread::sleep(Duration::from_secs(learning));
    let calm = decent.so_far();
    told(
        table,
        "decent clients served before",
        "%",
        calm.percent().unwrap_or_default(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let attack = |table: &mut Rows, vice: &Vice, numbers: std::ops::Range<u32>| {
        let (before, served) = (stand.envoy.metrics(), decent.so_far());
        let to = stand.door(vice.door);
        let came = runtime.block_on(come(vice, numbers, AT_ONCE, to, &stage));
        // The plugin tells what happened every 100 ms.
        thread::sleep(TOLD);
        let served = decent.so_far().since(served);
        let after = stand.envoy.metrics();
        let more = |name| Some(over_all(&after, name) - over_all(&before, name));
        table.add(Row {
            case: vice.name.to_owned(),
            unit: "decent %",
            wanted: Wanted::Told,
            values: [
                served.percent(),
                Some(came as f64),
                more("tidegate_arrivals_total"),
                more("tidegate_admitted_total"),
                more("tidegate_rejected_total"),
                Some(mib(&stand)),
            ],
        });
        came
    };
    let shares: f64 = VICES.iter().map(|vice| 1.0 / vice.costs as f64).sum();
    let share = f64::from(connections) / shares;
    let (mut number, mut came) = (0, 0);
    let mut first = None;
    for vice in VICES {
        let count = (share / vice.costs as f64).ceil() as u32;
        came += attack(table, vice, number..number + count);
        number += count;
        first.get_or_insert_with(|| (mib(&stand), largest(&stand)));
    }
    let all = decent.so_far().since(calm);
    drop(decent);

    let left = stand.left_open();
    let lost = stand.lost_slots() as f64;
    let metrics = stand.envoy.metrics();
    let (first_mib, first_pages) = first.unwrap_or_default();
    let mut add = |case: &str, unit, wanted, value| add(table, case, unit, wanted, value);
    let none = Wanted::Exactly(0.0);
    add(
        "hostile connections",
        "",
        Wanted::AtLeast(f64::from(connections)),
        came as f64,
    );
    add(
        "virtual machines that failed",
        "",
        none,
        stand.traps(&metrics),
    );
    add("left open", "", none, left);
    add("slots that can't be had any more", "", none, lost);
    add(
        "more at an upstream than its limit",
        "",
        none,
        stand.above_limits() as f64,
    );
    add("faults", "", none, faults(&metrics));
    add(
        "decent clients served, over all",
        "%",
        Wanted::AtLeast(90.0),
        all.percent().unwrap_or_default(),
    );
    add(
        "linear memory, largest machine",
        "MiB",
        Wanted::AtMost(8.0),
        largest(&stand) / 16.0,
    );
    add(
        "more of it than after the first vice",
        "pages",
        Wanted::Told,
        largest(&stand) - first_pages,
    );
    add(
        "resident memory of Envoy, after the first vice",
        "MiB",
        Wanted::Told,
        first_mib,
    );
    add("the same, at the end", "MiB", Wanted::Told, mib(&stand));
}

fn told(table: &mut Rows, case: &str, unit: &'static str, value: f64) {
    add(table, case, unit, Wanted::Told, value);
}

fn add(table: &mut Rows, case: &str, unit: &'static str, wanted: Wanted, value: f64) {
    table.add(Row {
        case: case.to_owned(),
        unit,
        wanted,
        values: [Some(value), None, None, None, None, None],
    });
}

fn faults(metrics: &Metrics) -> f64 {
    over_all(metrics, "tidegate_faults_total")
}

fn mib(stand: &Stand) -> f64 {
    stand.envoy.resident_kib() as f64 / 1024.0
}

/// The pages of the largest linear memory.
fn largest(stand: &Stand) -> f64 {
    let pages = stand.envoy.linear_pages();
    pages.into_iter().max().unwrap_or(0) as f64
}
