//! One run: the load, the faults, the looks, and what they come to.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::table::{Row, Table, Wanted},
    faults::{Fault, Planned, plan},
    harness::events,
    hostile::{
        crowd::Stage,
        fickle::Mood,
        stand::{Door, Stand, over_all},
    },
    load::{Load, Weather},
    look::{Look, look},
};

pub const COLUMNS: [&str; 8] = [
    "value", "looks", "lag ms", "open", "came/s", "served %", "hostile", "MiB",
];
type Rows = Table<8>;

const WORKERS: u32 = 4;
/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// What is added to an answer of an upstream that is slow.
const SLOW: Duration = Duration::from_millis(400);

/// Lets it run for so long.
pub fn soak(table: &mut Rows, seed: u64, lasts: Duration) {
    let (director, stage) = Stage::directed();
    let stand = Stand::start(WORKERS, &stage);
    let load = Load::start(stand.doors, seed, stage);
    rehearse(&stand, &load);
    let planned = plan(seed, lasts);
    let faults = planned.len();
    let mut weather = Faults::of(planned);
    let (mut minute, mut all) = (Minute::default(), Minute::default());
    minute.count(&load);
    minute = minute.next();
    let began = Instant::now();
    let mut memory = Vec::new();
    let (mut next, mut minutes) = (EVERY, 1);
    while began.elapsed() < lasts {
        // Faults begin between two looks, too.
        let until = next.min(lasts);
        while began.elapsed() < until {
            weather.change(began.elapsed(), &stand, &load);
            thread::sleep(Duration::from_millis(20));
        }
        next = began.elapsed() + EVERY;
        let seen = look(&stand, &director);
        memory.push((began.elapsed(), Memory::of(&stand)));
        minute.add(seen);
        all.add(seen);
        if began.elapsed() >= Duration::from_secs(60) * minutes || began.elapsed() >= lasts {
            minute.count(&load);
            minute.print(table, minutes, memory.last());
            minute = minute.next();
            minutes += 1;
        }
    }
    weather.change(lasts, &stand, &load);
    all.count(&load);
    drop(load);
    drop(director);
    verdict(table, &stand, &all, faults, &memory);
}

/// Once as much of everything as there will be: allocators keep what that took, and it is to be the
/// same from the first minute on.
fn rehearse(stand: &Stand, load: &Load) {
    const SPAN: Duration = Duration::from_secs(3);
    for times in 0..4 {
        load.change(|weather| {
            *weather = Weather {
                everybody: true,
                hostile: true,
                one_caller: [true; 4],
                aborts: [true; 4],
            };
        });
        stand.replace_configuration(times);
        thread::sleep(SPAN);
    }
    load.change(|weather| *weather = Weather::default());
    thread::sleep(SPAN);
}

fn verdict(table: &mut Rows, stand: &Stand, all: &Minute, faults: usize, memory: Samples<'_>) {
    let left = stand.left_open();
    let lost = stand.lost_slots() as f64;
    let metrics = stand.envoy.metrics();
    let events = events::events(&stand.envoy.log());
    let count = |name: &str| events.iter().filter(|event| event.name == name).count() as f64;
    let mut add = |case: &str, unit, wanted, value: f64| {
        let mut values = [None; 8];
        values[0] = Some(value);
        let case = case.to_owned();
        table.add(Row {
            case,
            unit,
            wanted,
            values,
        });
    };
    let none = Wanted::Exactly(0.0);
    add(
        "looks at which the two differed",
        "looks",
        none,
        all.differed as f64,
    );
    add(
        "of so many",
        "looks",
        Wanted::AtLeast(1.0),
        all.looks as f64,
    );
    add(
        "virtual machines that failed",
        "",
        none,
        stand.traps(&metrics),
    );
    let counted = over_all(&metrics, "tidegate_faults_total");
    add("faults of the plugin", "", none, counted);
    add("fault events", "events", none, count("fault"));
    add("left open", "", none, left);
    add("slots that can't be had any more", "", none, lost);
    let above = stand.above_limits() as f64;
    add("more at an upstream than its limit", "", none, above);
    let (first, last) = ends(memory);
    let more = |name, part: fn(&Memory) -> f64, wanted| {
        let (first, last) = (mean(first, part), mean(last, part));
        (name, wanted, 100.0 * (last / first - 1.0))
    };
    for (name, wanted, percent) in [
        more(
            "resident memory of Envoy, end against minute 1",
            |m| m.resident,
            Wanted::AtMost(5.0),
        ),
        more(
            "linear memory of all machines, the same",
            |m| m.linear,
            Wanted::Told,
        ),
        more("Envoy's heap, the same", |m| m.heap, Wanted::Told),
    ] {
        add(name, "% more", wanted, percent);
    }
    // It grows by pages, of which a machine has some twenty.
    let machines = stand.envoy.linear_pages().len();
    let pages = (mean(last, |m| m.linear) - mean(first, |m| m.linear)) * PAGES;
    add(
        "of it, for each machine",
        "pages more",
        Wanted::AtMost(2.0),
        pages / machines as f64,
    );
    add(
        "things that went wrong on purpose",
        "",
        Wanted::Told,
        faults as f64,
    );
    for name in [
        "surge_started",
        "surge_ended",
        "upstream_refusing",
        "started",
    ] {
        add(
            &format!("events {name}"),
            "events",
            Wanted::Told,
            count(name),
        );
    }
    for (metric, name) in [
        ("tidegate_admitted_total", "admitted"),
        ("tidegate_held_total", "held"),
        ("tidegate_rejected_total", "rejected"),
    ] {
        add(name, "", Wanted::Told, over_all(&metrics, metric));
    }
}

/// What holds memory, in MiB.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: f64,
    linear: f64,
    heap: f64,
}

/// Of WebAssembly, in a MiB.
const PAGES: f64 = 16.0;

impl Memory {
    fn of(stand: &Stand) -> Self {
        const MIB: f64 = (1 << 20) as f64;
        let memory: serde_json::Value =
            serde_json::from_str(&stand.envoy.admin("/memory")).expect("JSON");
        let heap = memory["allocated"]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok());
        Self {
            resident: stand.envoy.resident_kib() as f64 / 1024.0,
            linear: stand.envoy.linear_pages().iter().sum::<u64>() as f64 / PAGES,
            heap: heap.expect("a number of bytes") / MIB,
        }
    }
}

type Samples<'a> = &'a [(Duration, Memory)];

/// The ten looks before the end of the first minute, or of the first third of a shorter run; and the
/// last ten.
fn ends(memory: Samples<'_>) -> (Samples<'_>, Samples<'_>) {
    const LOOKS: usize = 10;
    let lasted = memory.last().map_or(Duration::ZERO, |(at, _)| *at);
    let first = (lasted / 3).min(Duration::from_secs(60));
    let first = memory.partition_point(|(at, _)| *at <= first);
    let begins = memory.split_at(first).0;
    let last = |all: usize| all.saturating_sub(LOOKS);
    (&begins[last(first)..], &memory[last(memory.len())..])
}

fn mean(samples: Samples<'_>, part: fn(&Memory) -> f64) -> f64 {
    let sum: f64 = samples.iter().map(|(_, memory)| part(memory)).sum();
    sum / samples.len() as f64
}

/// What was seen in a minute, or in all.
#[derive(Debug, Default)]
struct Minute {
    looks: usize,
    differed: usize,
    lag: Duration,
    open: usize,
    /// When it began: who had come and was served, and who meant harm.
    before: [usize; 3],
    now: [usize; 3],
    began: Option<Instant>,
}

impl Minute {
    fn add(&mut self, seen: Look) {
        self.began.get_or_insert_with(Instant::now);
        self.looks += 1;
        self.differed += usize::from(seen.lag.is_none());
        self.lag = self.lag.max(seen.lag.unwrap_or_default());
        self.open += seen.open;
    }

    fn count(&mut self, load: &Load) {
        let tally = load.tally();
        self.now =
            [&tally.came, &tally.served, &tally.hostile].map(|count| count.load(Ordering::Relaxed));
    }

    fn next(&self) -> Self {
        Self {
            before: self.now,
            ..Self::default()
        }
    }

    fn print(&self, table: &mut Rows, number: u32, memory: Option<&(Duration, Memory)>) {
        let [came, served, hostile] =
            [0, 1, 2].map(|one: usize| (self.now[one] - self.before[one]) as f64);
        let lasted = self
            .began
            .map_or(0.0, |began| began.elapsed().as_secs_f64());
        table.add(Row {
            case: format!("minute {number}"),
            unit: "differed",
            wanted: Wanted::Exactly(0.0),
            values: [
                Some(self.differed as f64),
                Some(self.looks as f64),
                Some(self.lag.as_secs_f64() * 1e3),
                Some(self.open as f64 / self.looks.max(1) as f64),
                Some(came / lasted.max(1.0)),
                Some(100.0 * served / came.max(1.0)),
                Some(hostile),
                memory.map(|(_, memory)| memory.resident),
            ],
        });
    }
}

/// The faults that are still to come, and those that there are.
struct Faults {
    planned: Vec<Planned>,
    begun: usize,
    running: Vec<Planned>,
    replaced: usize,
}

impl Faults {
    fn of(planned: Vec<Planned>) -> Self {
        Self {
            planned,
            begun: 0,
            running: Vec::new(),
            replaced: 0,
        }
    }

    /// Begins and ends what is due.
    fn change(&mut self, now: Duration, stand: &Stand, load: &Load) {
        let mut changed = self.running.len();
        self.running.retain(|one| one.ends > now);
        changed -= self.running.len();
        while let Some(next) = self.planned.get(self.begun)
            && next.at <= now
        {
            eprintln!("{:>6.1} s  {}", now.as_secs_f64(), next.fault);
            match next.fault {
                Fault::Replaced => {
                    self.replaced += 1;
                    stand.replace_configuration(self.replaced);
                }
                Fault::Killed(door) => upstream(stand, door).kill(),
                _ => {}
            }
            self.running.push(*next);
            self.begun += 1;
            changed += 1;
        }
        if changed > 0 {
            self.apply(stand, load);
        }
    }

    /// Makes everything as those say that run now; of two about one upstream, the later one.
    fn apply(&self, stand: &Stand, load: &Load) {
        let mut moods = [Mood::Well; 4];
        load.change(|weather| {
            *weather = Weather::default();
            for one in &self.running {
                match one.fault {
                    Fault::Killed(door) | Fault::Refuses(door) => {
                        moods[index(door)] = Mood::Refuses;
                    }
                    Fault::Slow(door) => moods[index(door)] = Mood::Slow(SLOW),
                    Fault::Hangs(door) => moods[index(door)] = Mood::Hangs,
                    Fault::OneCaller(door) => weather.one_caller[index(door)] = true,
                    Fault::Aborts(door) => weather.aborts[index(door)] = true,
                    Fault::Everybody => weather.everybody = true,
                    Fault::Hostile => weather.hostile = true,
                    Fault::Replaced => {}
                }
            }
        });
        for (upstream, mood) in stand.upstreams.iter().zip(moods) {
            upstream.be(mood);
        }
    }
}

fn index(door: Door) -> usize {
    let found = Door::ALL.iter().position(|one| *one == door);
    found.expect("one of all")
}

fn upstream(stand: &Stand, door: Door) -> &crate::hostile::fickle::Fickle {
    &stand.upstreams[index(door)]
}
