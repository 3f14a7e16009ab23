//! Workers that are not equally busy, in virtual time.

use std::time::Duration;

use tidegate::{engine::Timestamp, scenario::Random};

/// How often a worker ticks.
const TICK: Duration = Duration::from_millis(100);
/// What is learned before anything is counted.
const LEARNING_S: u64 = 6;

/// A way to keep a limit over all workers.
pub trait Scheme {
    /// Whether one that arrives at a worker is admitted.
    fn admits(&mut self, worker: usize, now: Timestamp) -> bool;

    /// A worker ticks, every 100 ms.
    fn tick(&mut self, worker: usize, now: Timestamp);

    /// How often anything shared was read, or read and written, so far.
    fn shared(&self) -> u64;
}

/// What is offered.
pub struct Arrivals {
    pub per_s: f64,
    pub workers: usize,
    /// Counted; more come before.
    pub seconds: u64,
}

/// What came of it.
pub struct Run {
    seconds: u64,
    arrived: u64,
    admitted: Vec<Timestamp>,
    counted: u64,
    shared: u64,
}

/// Offers arrivals as a Poisson process. The n-th worker gets a part that is 1/n² of the first one's.
pub fn run(arrivals: &Arrivals, scheme: &mut dyn Scheme) -> Run {
    let parts = (1..=arrivals.workers).map(|n| 1.0 / (n * n) as f64);
    let parts: Vec<f64> = parts.collect();
    let sum: f64 = parts.iter().sum();
    let start = Timestamp::from_millis(1_700_000_000_000);
    let begins = Duration::from_secs(LEARNING_S);
    let ends = begins + Duration::from_secs(arrivals.seconds);
    let mut random = Random::new(7);
    // No two workers tick at the same time.
    let apart = TICK.div_f64(arrivals.workers as f64);
    let mut ticks: Vec<Duration> = (0..arrivals.workers as u32).map(|n| apart * n).collect();
    let mut run = Run {
        seconds: arrivals.seconds,
        arrived: 0,
        admitted: Vec::new(),
        counted: 0,
        shared: 0,
    };
    let (mut at, mut before) = (Duration::ZERO, None);
    loop {
        at += Duration::from_secs_f64(-(1.0 - random.unit()).ln() / arrivals.per_s);
        if at >= ends {
            break;
        }
        while let Some((worker, tick)) = ticks.iter().enumerate().min_by_key(|(_, tick)| **tick)
            && *tick <= at
        {
            scheme.tick(worker, start.after(*tick));
            ticks[worker] += TICK;
        }
        let counts = at >= begins;
        if counts && before.is_none() {
            before = Some(scheme.shared());
        }
        let mut left = random.unit() * sum;
        let worker = parts.iter().position(|part| {
            left -= part;
            left < 0.0
        });
        let worker = worker.unwrap_or(arrivals.workers - 1);
        let now = start.after(at);
        let admitted = scheme.admits(worker, now);
        if admitted {
            run.admitted.push(now);
        }
        run.arrived += u64::from(counts);
        run.counted += u64::from(counts && admitted);
    }
    run.shared = scheme.shared() - before.unwrap_or(0);
    run
}

impl Run {
    /// How far the worst trailing second was above the limit.
    pub fn excess_percent(&self, limit: u32) -> f64 {
        let (mut first, mut worst) = (0, 0);
        for (last, now) in self.admitted.iter().enumerate() {
            while now.since(self.admitted[first]) >= Duration::from_secs(1) {
                first += 1;
            }
            worst = worst.max(last + 1 - first);
        }
        let limit = f64::from(limit);
        ((worst as f64 - limit) / limit * 100.0).max(0.0)
    }

    /// How often anything shared was touched for each arrival.
    pub fn shared_per_arrival(&self) -> f64 {
        self.shared as f64 / self.arrived as f64
    }

    /// How much less was admitted than the limit would allow: the mean of what the trailing second
    /// had, every millisecond. What comes in a lump every second is counted by how often it does.
    pub fn lost_percent(&self, limit: u32) -> f64 {
        let Some(end) = self.admitted.last() else {
            return 100.0;
        };
        let millis = 1_000 * self.seconds;
        let begin = end.as_millis().saturating_sub(millis);
        let (mut first, mut after, mut sum) = (0, 0, 0);
        for ms in begin..begin + millis {
            let now = Timestamp::from_millis(ms);
            while self.admitted.get(after).is_some_and(|at| *at <= now) {
                after += 1;
            }
            while now.since(self.admitted[first]) >= Duration::from_secs(1) {
                first += 1;
            }
            sum += after - first;
        }
        let mean = sum as f64 / millis as f64;
        (100.0 * (1.0 - mean / f64::from(limit))).max(0.0)
    }

    /// How many were not admitted.
    pub fn refused(&self) -> u64 {
        self.arrived - self.counted
    }
}
