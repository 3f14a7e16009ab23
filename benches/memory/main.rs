//! What one virtual machine of the real Envoy holds after a million callers, and how long it takes to
//! load the module. `cargo xtask bench memory` runs it.

#[allow(dead_code, reason = "other benchmarks use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/envoy/harness/mod.rs"]
mod harness;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    common::table::{Row, Table, Wanted},
    harness::{Bootstrap, Envoy, HTTP, ask_as, envoy::validate},
};

/// What `cargo xtask bench memory` hands over.
#[derive(Parser)]
struct Args {
    /// Write the rows as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// 100,000 callers, and fewer starts
    #[arg(long)]
    quick: bool,
}

/// So many callers come as often as all others together first: what time and arrivals alone take is not
/// for the number of callers.
const SETTLED: u32 = 10_000;
const PAGE_MIB: f64 = 1.0 / 16.0;

fn main() -> ExitCode {
    let args = Args::parse();
    let (callers, starts) = if args.quick {
        (100_000, 3)
    } else {
        (1_000_000, 11)
    };
    let mut table = Table::begin("memory", ["now", "before"]);
    after_callers(&mut table, callers);
    loading(&mut table, starts);
    println!(
        "\n{} Linear memory is that of the largest virtual machine, as the kernel knows it.",
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

/// An API whose every caller is looked at: its few slots are scarce.
fn api() -> Bootstrap {
    let nowhere = ([127, 0, 0, 1], 9).into();
    HTTP.before(nowhere)
        .limits(r#"{"inflight": 4}"#)
        .with(r#""key": "header:x-caller""#)
        .set(
            "route: {cluster: api, timeout: 15s}",
            "direct_response: {status: 200}",
        )
}

fn after_callers(table: &mut Table<2>, callers: u32) {
    let envoy = Envoy::start(&api(), 1);
    let to = envoy.listener(HTTP.listener);
    let held = || (envoy.linear_pages(), envoy.resident_kib());
    let largest = |pages: &[u64]| pages.iter().copied().max().unwrap_or(0) as f64;
    let (fresh, _) = held();
    for _ in 0..callers / SETTLED {
        ask_as(to, 0..SETTLED);
    }
    let (settled, settled_kib) = held();
    ask_as(to, 0..callers);
    let (now, now_kib) = held();
    envoy.until_rule("api", "tidegate_arrivals_total", 2.0 * f64::from(callers));
    let [fresh, settled, now] = [&fresh, &settled, &now].map(|pages| largest(pages));
    let mut add = |case: String, unit, wanted, now, before| {
        table.add(Row {
            case,
            unit,
            wanted,
            values: [Some(now), before],
        });
    };
    add(
        format!("linear memory after {callers} callers"),
        "MiB",
        Wanted::AtMost(8.0),
        now * PAGE_MIB,
        Some(fresh * PAGE_MIB),
    );
    add(
        format!("more than after {callers} arrivals of {SETTLED}"),
        "pages",
        Wanted::Exactly(0.0),
        now - settled,
        None,
    );
    add(
        "resident memory of Envoy, before: by then".to_owned(),
        "MiB",
        Wanted::Told,
        now_kib as f64 / 1024.0,
        Some(settled_kib as f64 / 1024.0),
    );
}

/// `envoy --mode validate` with the plugin and without: it loads the module and configures it.
fn loading(table: &mut Table<2>, starts: usize) {
    let with = api();
    let filter = with.block("- name: tidegate\n");
    let without = with.clone().set(&filter, "");
    let took = |bootstrap: &Bootstrap| {
        let began = Instant::now();
        let (good, said) = validate(bootstrap);
        assert!(good, "{said}");
        began.elapsed()
    };
    let (mut all, mut rest) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        all.push(took(&with));
        rest.push(took(&without));
    }
    let [all, rest] = [all, rest].map(|mut spans| {
        spans.sort();
        spans[spans.len() / 2].as_secs_f64() * Duration::from_secs(1).as_millis() as f64
    });
    table.add(Row {
        case: "Envoy reads its bootstrap, before: no plugin".to_owned(),
        unit: "ms",
        wanted: Wanted::Told,
        values: [Some(all), Some(rest)],
    });
    table.add(Row {
        case: "of that, to load and configure the module".to_owned(),
        unit: "ms",
        wanted: Wanted::Told,
        values: [Some(all - rest), None],
    });
}
