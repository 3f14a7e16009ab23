//! Recorded traffic: counts a minute, spread over laps of 100 ms with a fixed seed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use tidegate::scenario::{LAPS_PER_S, Random, Scenario, spread};

use crate::{
    Row,
    common::table::Wanted,
    rivals::{NAMES, Rule, Tide, all},
};

/// Laps without an alarm after which the next one is another incident.
const HOUR: u32 = 3_600 * LAPS_PER_S;

/// Seconds since the row before, and arrivals in them.
type Rows = Vec<(u64, u64)>;

/// A `t,count` file; rows that are no numbers, such as the head, are passed over.
fn read(path: &Path) -> io::Result<Rows> {
    let text = fs::read_to_string(path)?;
    let mut rows = Rows::new();
    let mut before = None;
    for line in text.lines() {
        let Some((t, count)) = line.split_once(',') else {
            continue;
        };
        let (Ok(t), Ok(count)) = (t.trim().parse::<u64>(), count.trim().parse::<u64>()) else {
            continue;
        };
        // A gap of hours is one of the record and not of the traffic.
        let span = before.map_or(60, |before: u64| t.saturating_sub(before));
        rows.push((span.clamp(1, 600), count));
        before = Some(t);
    }
    Ok(rows)
}

/// Hands every lap of the trace over, with the number of its row.
fn replay(rows: &Rows, mut lap: impl FnMut(usize, u32)) {
    let mut random = Random::new(1);
    let mut laps = Vec::new();
    for (row, (span, count)) in rows.iter().enumerate() {
        laps.resize((*span * u64::from(LAPS_PER_S)) as usize, 0);
        spread(&mut random, *count, &mut laps);
        for arrivals in &laps {
            lap(row, *arrivals);
        }
    }
}

/// The most memory that this process ever had, in MiB.
fn most_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// How long this process has had a processor, in s.
fn on_a_processor() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/schedstat").ok()?;
    let ns: f64 = status.split_whitespace().next()?.parse().ok()?;
    Some(ns / 1e9)
}

/// The traces of a folder, by name.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".csv") && !name.ends_with(".labels.csv") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Replays every trace of a folder.
pub fn rows(dir: &Path, mut tell: impl FnMut(Row)) -> io::Result<()> {
    for path in files(dir)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let rows = read(&path)?;
        trace(&name, &rows, &mut tell);
    }
    Ok(())
}

fn trace(name: &str, rows: &Rows, tell: &mut impl FnMut(Row)) {
    let seconds: u64 = rows.iter().map(|(span, _)| span).sum();
    let arrivals: u64 = rows.iter().map(|(_, count)| count).sum();
    let days = seconds as f64 / 86_400.0;
    let mut rules = all(arrivals as f64 / seconds.max(1) as f64);
    let (mut on, mut counts) = ([false; NAMES.len()], [0_u32; NAMES.len()]);
    let (mut incidents, mut quiet) = ([0_u32; NAMES.len()], [u32::MAX; NAMES.len()]);
    let (mut seen, mut shed, mut full) = (0.0_f64, 0, false);
    let mut last = 0;
    replay(rows, |row, arrivals| {
        if row != last {
            // The highest minute of all that are over.
            if let Some((span, count)) = rows.get(last) {
                seen = seen.max(*count as f64 / *span as f64);
            }
            last = row;
        }
        for (column, rule) in rules.iter_mut().enumerate() {
            let alarm = rule.lap(arrivals);
            counts[column] += u32::from(alarm && !on[column]);
            if column == 0 {
                let rate = rows
                    .get(row)
                    .map_or(0.0, |(span, n)| *n as f64 / *span as f64);
                full = alarm && on[0] && full;
                if alarm && !full && rate > 1.5 * seen {
                    full = true;
                    shed += 1;
                }
            }
            incidents[column] += u32::from(alarm && quiet[column] > HOUR);
            quiet[column] = if alarm {
                0
            } else {
                quiet[column].saturating_add(1)
            };
            on[column] = alarm;
        }
    });
    tell(Row {
        case: format!("{name}, {days:.0} d: rate alarms"),
        unit: "a day",
        wanted: if name.starts_with("worldcup98") {
            Wanted::AtMost(0.1)
        } else {
            Wanted::Told
        },
        values: counts.map(|count| Some(f64::from(count) / days)),
    });
    tell(Row {
        case: format!("{name}: the same, within an hour one"),
        unit: "a day",
        wanted: Wanted::Told,
        values: incidents.map(|count| Some(f64::from(count) / days)),
    });
    tell(Row {
        case: format!("{name}: alarms with an upstream that is full (*)"),
        unit: "alarms",
        wanted: Wanted::Told,
        values: [Some(f64::from(shed)), None, None, None, None],
    });
    if days > 80.0 {
        speed(name, days, tell, |tide| {
            replay(rows, |_, arrivals| {
                tide.lap(arrivals);
            });
        });
    }
}

/// How fast 87 days pass when there are no traces.
pub fn made_up_speed(mut tell: impl FnMut(Row)) {
    speed("made up", 87.0, &mut tell, |tide| {
        for arrivals in Scenario::new(180.0, 1).day(4.0).take(87 * 864_000) {
            tide.lap(arrivals);
        }
    });
}

fn speed(name: &str, days: f64, tell: &mut impl FnMut(Row), run: impl FnOnce(&mut Tide)) {
    let mut tide = Tide::new();
    let (since, before) = (Instant::now(), on_a_processor());
    run(&mut tide);
    let took = since.elapsed().as_secs_f64();
    let busy = on_a_processor().zip(before).map(|(now, then)| now - then);
    let only = |value| [value, None, None, None, None];
    tell(Row {
        case: format!("replay of {days:.0} days, {name}"),
        unit: "s",
        wanted: Wanted::AtMost(10.0),
        values: only(Some(took)),
    });
    tell(Row {
        case: "of that on a processor".into(),
        unit: "s",
        wanted: Wanted::Told,
        values: only(busy),
    });
    tell(Row {
        case: "most memory of this process".into(),
        unit: "MiB",
        wanted: Wanted::AtMost(100.0),
        values: only(most_memory()),
    });
}
