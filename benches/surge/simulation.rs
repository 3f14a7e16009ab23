//! The field's incidents, played before the engine in virtual time.

use serde_json::Value;

use crate::{
    bench::{Bench, Case, Stopped},
    guards::Guard,
    model::{Numbers, Policy, Shape, play, shapes},
    table::{Bar, Column, Measured, Section, Wanted},
};

/// Ours has so many workers.
const WORKERS: u32 = 4;
/// So much of the ideal is to be served where a culprit can be told from the others, and where it is
/// everybody.
const GOOD: f64 = 90.0;
const FAIR: f64 = 70.0;
/// Normal again after that many seconds.
const SOON_S: f64 = 30.0;
/// A bad client was shipped so long before it hammers, and when time is short.
const HOUR_S: f64 = 3600.0;
const SHORT_HOUR_S: f64 = 210.0;

const COLUMNS: &[Column] = &[
    Column::new("goodput_percent", "of ideal %", 1),
    Column::new("p99_ms", "p99 ms", 0),
    Column::new("failed_users_percent", "failed us. %", 1),
    Column::new("mixed_users_percent", "mixed us. %", 1),
    Column::new("failed_attempts_percent", "failed att.%", 1),
    Column::new("recovers_in_s", "again in s", 0),
    Column::new("peak", "peak", 0),
    Column::new("attempts_per_s", "attempts/s", 0),
];

/// Each shape before each policy.
pub fn incidents(bench: &mut Bench) -> Result<(), Stopped> {
    let hour = if bench.quick { SHORT_HOUR_S } else { HOUR_S };
    let seeds = if bench.quick { 2 } else { 5 };
    let shapes = [
        shapes::calm(false),
        shapes::storm(),
        shapes::shipped_earlier(hour),
        shapes::everybody(),
        shapes::build_up(),
        shapes::throttle_lifted(),
        shapes::restart(),
        shapes::come_back(),
        shapes::silence(),
        shapes::flapping(false),
        shapes::flapping(true),
    ];
    let section = Section {
        slug: "simulation",
        title: format!(
            "Simulation, in virtual time: the normal clients, while the trouble lasts and 10 s \
             longer, in {seeds} runs; peak and \"again\" are the worst of them. Of ideal: served, of \
             what a guard that knows all would have served; tidegate with {WORKERS} workers"
        ),
        of: "guard",
        columns: COLUMNS,
    };
    let cases = shapes.into_iter().flat_map(|shape| {
        [Policy::None, Policy::Fifo, Policy::Tidegate(WORKERS)].map(|policy| {
            let (slug, name) = names(&shape, policy);
            Case::new(slug, name, Guard::None, (shape.clone(), policy))
        })
    });
    bench.section(section, cases.collect::<Vec<_>>(), |bench, case| {
        let (shape, policy) = &case.how;
        let runs = async {
            let seeds = 1..=seeds;
            let all = seeds.map(|seed| play(&shape.clone().seed(seed), *policy).numbers);
            all.collect::<Vec<_>>()
        };
        let runs = bench.run(runs)?;
        Ok(measured(shape, *policy, &runs))
    })
}

/// For programs, and for people; the benchmark is short, so that they may stay.
fn names(shape: &Shape, policy: Policy) -> (&'static str, &'static str) {
    let (slug, name) = match policy {
        Policy::None => ("none", "none"),
        Policy::Fifo => ("fifo", "FIFO"),
        Policy::Tidegate(_) => ("tidegate", "tidegate"),
    };
    let slug = format!("{}_{slug}", shape.slug);
    let name = format!("{}: {name}", shape.name);
    (slug.leak(), name.leak())
}

fn measured(shape: &Shape, policy: Policy, runs: &[Numbers]) -> Measured {
    let mean = |number: fn(&Numbers) -> f64| {
        Some(runs.iter().map(number).sum::<f64>() / runs.len().max(1) as f64)
    };
    let goodput = mean(|run| run.goodput_percent);
    let p99 = mean(|run| run.p99_ms.unwrap_or(f64::NAN));
    let again = runs
        .iter()
        .map(|run| run.recovers_in_s)
        .try_fold(0, |worst, took| Some(worst.max(took?)))
        .map(f64::from);
    let peak = runs
        .iter()
        .map(|run| run.peak)
        .max()
        .map(|peak| peak as f64);
    let values = vec![
        goodput,
        p99,
        mean(|run| run.failed_users_percent),
        mean(|run| run.mixed_users_percent),
        mean(|run| run.failed_attempts_percent),
        again,
        peak,
        mean(|run| run.attempts_per_s),
    ];
    let mut wanted = Vec::new();
    if matches!(policy, Policy::Tidegate(_)) {
        let mut want = |what, value, bar| wanted.push(Wanted { what, value, bar });
        want("peak", peak, Bar::AtMost(f64::from(shape.rule.limit)));
        want("normal again, in s", again, Bar::AtMost(SOON_S));
        if shape.slug == "everybody" {
            let mixed = mean(|run| run.mixed_users_percent);
            want("users now and then, %", mixed, Bar::AtMost(15.0));
        }
        let spared = shape.has_culprit() || shape.is_calm();
        let least = if spared { GOOD } else { FAIR };
        want("of the ideal, %", goodput, Bar::AtLeast(least));
        if spared {
            let failed = mean(|run| run.failed_attempts_percent);
            // What a culprit took for an hour is its own, until the surge is known.
            let most = if shape.slug == "shipped" { 5.0 } else { 1.0 };
            want("failed attempts, %", failed, Bar::AtMost(most));
        }
    }
    Measured {
        values,
        wanted,
        served_by_second: Vec::new(),
        told: Value::Null,
    }
}
