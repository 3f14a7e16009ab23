//! Made-up traffic: delays, false alarms, recovery, drift.

use std::{
    sync::{Mutex, mpsc},
    thread,
};

use tidegate::{
    engine::Phase,
    scenario::{Noise, Scenario, Shape},
};

use crate::{
    Row,
    common::table::Wanted,
    rivals::{NAMES, Rule, Tide, all},
};

/// How much is run.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Trials of each delay.
    pub trials: u64,
    /// Days without a surge.
    pub days: u64,
}

/// One column each.
type Values = [Option<f64>; NAMES.len()];

/// The rate strays by `cv`, and forgets how within 5 s.
pub fn wander(cv: f64) -> Noise {
    if cv > 0.0 {
        Noise::Wander { cv, memory_s: 5.0 }
    } else {
        Noise::Poisson
    }
}

/// The `part` quantile of the delays; none when that many were never seen.
fn quantile(delays: &mut [Option<f64>], part: f64) -> Option<f64> {
    delays.sort_by(|a, b| {
        let at = |delay: &Option<f64>| delay.unwrap_or(f64::INFINITY);
        at(a).total_cmp(&at(b))
    });
    let index = ((delays.len() as f64 * part).ceil() as usize).clamp(1, delays.len());
    delays[index - 1]
}

/// Seconds from the begin of `shape`, which is at `at`, to each rule's alarm.
fn delays(base: f64, noise: Noise, shape: Shape, at: f64, seed: u64) -> Values {
    let mut traffic = Scenario::new(base, seed).noise(noise).shape(shape);
    let mut rules = all(base);
    let mut found: Values = [None; NAMES.len()];
    // Not at the begin of a whole second: the rivals look at those.
    let before = (at * 10.0) as u64;
    for _ in 0..before {
        let arrivals = traffic.next().unwrap_or(0);
        for rule in &mut rules {
            rule.lap(arrivals);
        }
    }
    for lap in 0..6_000 {
        let arrivals = traffic.next().unwrap_or(0);
        for (rule, found) in rules.iter_mut().zip(&mut found) {
            if found.is_none() && rule.lap(arrivals) {
                *found = Some((f64::from(lap) + rule.part()) / 10.0);
            }
        }
        if found.iter().all(Option::is_some) || (found[0].is_some() && lap > 1_200) {
            break;
        }
    }
    found
}

/// The 95th percentile of the delays of a shape that begins at `at`.
fn delay_row(
    effort: Effort,
    (base, cv): (f64, f64),
    case: &str,
    wanted: Wanted,
    shape: impl Fn(f64) -> Shape,
) -> Row {
    let mut all: [Vec<Option<f64>>; NAMES.len()] = Default::default();
    for seed in 0..effort.trials {
        let at = 900.0 + (seed % 10) as f64 / 10.0;
        let found = delays(base, wander(cv), shape(at), at, 1_000 + seed);
        for (list, delay) in all.iter_mut().zip(found) {
            list.push(delay);
        }
    }
    Row {
        case: format!("{case} at {base}/s, cv {cv}: p95"),
        unit: "s",
        wanted,
        values: all.map(|mut list| quantile(&mut list, 0.95)),
    }
}

/// How soon surges are seen.
pub fn delay_rows(effort: Effort, mut tell: impl FnMut(Row)) {
    use Wanted::{AtMost, Told};
    let lasts = 1e9;
    let step = |factor| move |at| Shape::Step { at, factor, lasts };
    let ramp = |over| {
        move |at| Shape::Ramp {
            at,
            factor: 10.0,
            over,
        }
    };
    for (base, cv, factor, wanted) in [
        (500.0, 0.0, 3.0, AtMost(0.5)),
        (500.0, 0.1, 3.0, AtMost(1.3)),
        (500.0, 0.0, 10.0, AtMost(0.15)),
        (500.0, 0.1, 10.0, AtMost(0.15)),
        (20.0, 0.0, 5.0, AtMost(1.5)),
        (20.0, 0.1, 5.0, AtMost(1.5)),
        (20_000.0, 0.1, 3.0, Told),
        (1.0, 0.0, 50.0, Told),
    ] {
        let case = format!("step x{factor}");
        tell(delay_row(effort, (base, cv), &case, wanted, step(factor)));
    }
    for base in [20.0, 500.0, 20_000.0] {
        let at = (base, 0.1);
        tell(delay_row(
            effort,
            at,
            "x10 over 60 s",
            AtMost(20.0),
            ramp(60.0),
        ));
        tell(delay_row(
            effort,
            at,
            "x10 over 10 min",
            AtMost(100.0),
            ramp(600.0),
        ));
        tell(delay_row(effort, at, "retry storm", Told, |at| {
            Shape::RetryStorm { at, lasts }
        }));
    }
}

/// Runs `job` for every item, on all cores, and hands the rows over in the items' order.
fn side_by_side<T: Copy + Send + Sync>(
    items: &[T],
    job: impl Fn(T) -> Row + Sync,
    mut tell: impl FnMut(Row),
) {
    let next = Mutex::new(0);
    let (sender, receiver) = mpsc::channel();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores.min(items.len()) {
            let (sender, next, job) = (sender.clone(), &next, &job);
            scope.spawn(move || {
                loop {
                    let index = {
                        let mut next = next.lock().unwrap_or_else(|e| e.into_inner());
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = items.get(index) else { break };
                    if sender.send((index, job(*item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut rows: Vec<Option<Row>> = items.iter().map(|_| None).collect();
        let mut told = 0;
        for (index, row) in receiver {
            rows[index] = Some(row);
            while let Some(row) = rows.get_mut(told).and_then(Option::take) {
                tell(row);
                told += 1;
            }
        }
    });
}

/// Alarms that begin within `laps` of `traffic`.
fn alarms(rules: &mut [Box<dyn Rule + Send>; 5], traffic: &mut Scenario, laps: u64) -> Values {
    let mut counts = [0_u32; NAMES.len()];
    let mut on = [false; NAMES.len()];
    for _ in 0..laps {
        let arrivals = traffic.next().unwrap_or(0);
        for ((rule, on), count) in rules.iter_mut().zip(&mut on).zip(&mut counts) {
            let alarm = rule.lap(arrivals);
            *count += u32::from(alarm && !*on);
            *on = alarm;
        }
    }
    counts.map(|count| Some(f64::from(count)))
}

/// Days in which nothing happens.
pub fn false_alarm_rows(effort: Effort, tell: impl FnMut(Row)) {
    let mut items = Vec::new();
    for base in [1.0, 20.0, 500.0, 20_000.0] {
        for cv in [0.0, 0.1, 0.2] {
            items.push((base, wander(cv), format!("cv {cv}")));
        }
        // Noise of other kinds, which was not asked for.
        let gamma = |every_s| Noise::Gamma { cv: 0.2, every_s };
        items.push((base, gamma(0.1), "gamma 0.2 each 0.1 s".into()));
        items.push((base, gamma(10.0), "gamma 0.2 each 10 s".into()));
        for memory_s in [1.0, 20.0, 60.0] {
            let slow = Noise::Wander { cv: 0.2, memory_s };
            items.push((base, slow, format!("cv 0.2 over {memory_s} s")));
        }
    }
    let items: Vec<_> = items.iter().collect();
    let days = effort.days;
    side_by_side(
        &items,
        |(base, noise, name)| {
            let mut traffic = Scenario::new(*base, 77).noise(*noise).day(4.0);
            Row {
                case: format!("false alarms, {days} d, day 4:1, {base}/s, {name}"),
                unit: "alarms",
                wanted: Wanted::Exactly(0.0),
                values: alarms(&mut all(*base), &mut traffic, days * 864_000),
            }
        },
        tell,
    );
}

/// The first two hours of many rules, which know nothing of their noise at first.
pub fn young_rows(effort: Effort, tell: impl FnMut(Row)) {
    let mut items = Vec::new();
    for base in [1.0, 20.0, 500.0, 20_000.0] {
        for cv in [0.1, 0.2] {
            items.push((base, cv));
        }
    }
    let trials = effort.trials / 4;
    side_by_side(
        &items,
        |(base, cv)| {
            let mut sums: Values = [Some(0.0); NAMES.len()];
            for seed in 0..trials {
                let mut traffic = Scenario::new(base, 700 + seed).noise(wander(cv));
                let counts = alarms(&mut all(base), &mut traffic, 72_000);
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum = sum
                        .zip(count)
                        .map(|(sum, count)| sum + count / trials as f64);
                }
            }
            Row {
                case: format!("false alarms, the first 2 h, {base}/s, cv {cv}"),
                unit: "each",
                wanted: Wanted::Told,
                values: sums,
            }
        },
        tell,
    );
}

/// Traffic that comes back after five minutes of silence.
pub fn outage_rows(effort: Effort, mut tell: impl FnMut(Row)) {
    for base in [1.0, 20.0, 500.0, 20_000.0] {
        let mut sums: Values = [Some(0.0); NAMES.len()];
        for seed in 0..effort.trials / 4 {
            let at = 1_800.0;
            let mut traffic = Scenario::new(base, 9_000 + seed)
                .noise(wander(0.1))
                .shape(Shape::Outage { at, lasts: 300.0 });
            let mut rules = all(base);
            alarms(&mut rules, &mut traffic, 20_900);
            let after = alarms(&mut rules, &mut traffic, 6_000);
            for (sum, count) in sums.iter_mut().zip(after) {
                *sum = Some(sum.unwrap_or(0.0) + count.unwrap_or(0.0).min(1.0));
            }
        }
        tell(Row {
            case: format!("back after 5 min of outage, {base}/s, cv 0.1"),
            unit: "of trials",
            wanted: Wanted::Exactly(0.0),
            values: sums.map(|sum| sum.map(|sum| sum / (effort.trials / 4) as f64)),
        });
    }
}

/// How long an alarm stays after its surge.
pub fn leaving_rows(effort: Effort, mut tell: impl FnMut(Row)) {
    for (base, factor) in [(20.0, 10.0), (500.0, 3.0), (500.0, 50.0), (20_000.0, 10.0)] {
        let mut lists: [Vec<Option<f64>>; NAMES.len()] = Default::default();
        for seed in 0..effort.trials / 4 {
            let (at, lasts) = (900.0, 120.0);
            let mut traffic = Scenario::new(base, 5_000 + seed)
                .noise(wander(0.1))
                .shape(Shape::Step { at, factor, lasts });
            let mut rules = all(base);
            alarms(&mut rules, &mut traffic, 10_200);
            let mut left: [Option<f64>; NAMES.len()] = [None; NAMES.len()];
            for lap in 1..=6_000 {
                let arrivals = traffic.next().unwrap_or(0);
                for (rule, left) in rules.iter_mut().zip(&mut left) {
                    if !rule.lap(arrivals) && left.is_none() {
                        *left = Some(f64::from(lap) / 10.0);
                    }
                }
            }
            for (list, left) in lists.iter_mut().zip(left) {
                list.push(left);
            }
        }
        tell(Row {
            case: format!("leaving after x{factor} for 120 s, {base}/s: p95"),
            unit: "s",
            wanted: Wanted::AtMost(8.0),
            values: lists.map(|mut list| quantile(&mut list, 0.95)),
        });
    }
}

/// A slow climb after three ordinary days.
pub fn drift_rows(effort: Effort, mut tell: impl FnMut(Row)) {
    for hours in [0.5, 2.0, 12.0] {
        for (base, cv) in [(20.0, 0.0), (500.0, 0.1), (20_000.0, 0.2)] {
            let trials = (effort.trials / 40).clamp(1, 5);
            let (mut worst, mut before) = (Some(0.0_f64), 0);
            for seed in 0..trials {
                // From one hour of the day or another.
                let at = 3.0 * 86_400.0 + 7.0 * 3_600.0 * seed as f64;
                let every = hours * 3_600.0;
                let traffic = Scenario::new(base, 300 + seed)
                    .noise(wander(cv))
                    .day(4.0)
                    .shape(Shape::Doubling { at, every });
                let laps = ((at + 4.0 * every) * 10.0) as usize;
                let mut tide = Tide::new();
                let mut warned = None;
                for (lap, arrivals) in traffic.take(laps).enumerate() {
                    let was = tide.detector.drifts();
                    tide.lap(arrivals);
                    if tide.detector.drifts() && !was {
                        let since = lap as f64 / 10.0 - at;
                        if since < 0.0 {
                            before += 1;
                        } else if warned.is_none() {
                            warned = Some(since / every);
                        }
                    }
                }
                worst = worst.zip(warned).map(|(worst, warned)| worst.max(warned));
            }
            // It may begin at the quietest hour: ×4 until the daily peak, and ×1.5 above it.
            let case = format!("doubling each {hours} h, {base}/s, cv {cv}");
            let only = |value| [value, None, None, None, None];
            tell(Row {
                case: format!("{case}: drift warning"),
                unit: "doublings",
                wanted: Wanted::AtMost(3.0),
                values: only(worst),
            });
            tell(Row {
                case: format!("{case}: warnings before"),
                unit: "warnings",
                wanted: Wanted::Exactly(0.0),
                values: only(Some(f64::from(before))),
            });
        }
    }
}

/// A ×3 that stays.
pub fn lasting_rows(mut tell: impl FnMut(Row)) {
    for (base, cv) in [(20.0, 0.0), (500.0, 0.0), (500.0, 0.1), (20_000.0, 0.1)] {
        let (at, lasts) = (900.0, 1e9);
        let traffic = Scenario::new(base, 42)
            .noise(wander(cv))
            .shape(Shape::Step {
                at,
                factor: 3.0,
                lasts,
            });
        let mut tide = Tide::new();
        let (mut begun, mut ended) = (0, 0.0);
        let mut was = false;
        for (lap, arrivals) in traffic.take(9_000 + 108_000).enumerate() {
            let is = tide.lap(arrivals);
            begun += u32::from(is && !was);
            if was && !is {
                ended = (lap as f64 - 9_000.0) / 600.0;
            }
            was = is;
        }
        let calm = tide.detector.phase() < Phase::Surge;
        let only = |value| [value, None, None, None, None];
        tell(Row {
            case: format!("lasting x3, {base}/s, cv {cv}: normal after"),
            unit: "min",
            wanted: Wanted::AtMost(30.0),
            values: only(calm.then_some(ended)),
        });
        tell(Row {
            case: format!("lasting x3, {base}/s, cv {cv}: surges told"),
            unit: "surges",
            wanted: Wanted::Exactly(1.0),
            values: only(Some(f64::from(begun))),
        });
    }
}
