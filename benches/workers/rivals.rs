//! Other ways to keep a limit of arrivals a second over all workers.

use std::{collections::VecDeque, time::Duration};

use tidegate::engine::Timestamp;

use crate::model::Scheme;

/// The admitted arrivals of the trailing second, each by itself.
#[derive(Clone, Default)]
struct Second(VecDeque<Timestamp>);

impl Second {
    fn count(&mut self, now: Timestamp) -> u32 {
        while let Some(oldest) = self.0.front()
            && now.since(*oldest) >= Duration::from_secs(1)
        {
            self.0.pop_front();
        }
        self.0.len() as u32
    }

    /// Adds one, if there are less than `limit`.
    fn admits(&mut self, limit: u32, now: Timestamp) -> bool {
        let admits = self.count(now) < limit;
        if admits {
            self.0.push_back(now);
        }
        admits
    }
}

/// Every arrival asks the one record.
pub struct AskEachTime {
    limit: u32,
    all: Second,
    shared: u64,
}

impl AskEachTime {
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            all: Second::default(),
            shared: 0,
        }
    }
}

impl Scheme for AskEachTime {
    fn admits(&mut self, _: usize, now: Timestamp) -> bool {
        self.shared += 1;
        self.all.admits(self.limit, now)
    }

    fn tick(&mut self, _: usize, _: Timestamp) {}

    fn shared(&self) -> u64 {
        self.shared
    }
}

/// Each worker has an equal part of the limit, and shares nothing.
pub struct Split {
    parts: Vec<(u32, Second)>,
}

impl Split {
    pub fn new(workers: usize, limit: u32) -> Self {
        let (part, rest) = (limit / workers as u32, limit % workers as u32);
        let part = |n| part + u32::from(n < rest);
        Self {
            parts: (0..workers as u32)
                .map(|n| (part(n), Second::default()))
                .collect(),
        }
    }
}

impl Scheme for Split {
    fn admits(&mut self, worker: usize, now: Timestamp) -> bool {
        let (limit, second) = &mut self.parts[worker];
        second.admits(*limit, now)
    }

    fn tick(&mut self, _: usize, _: Timestamp) {}

    fn shared(&self) -> u64 {
        0
    }
}

/// Each worker tells every 100 ms what it admitted in the trailing second, and reads what the others
/// told.
pub struct Published {
    limit: u32,
    own: Vec<Second>,
    /// As they were told.
    told: Vec<u32>,
    /// What each worker read of the others.
    read: Vec<u32>,
    shared: u64,
}

impl Published {
    pub fn new(workers: usize, limit: u32) -> Self {
        Self {
            limit,
            own: vec![Second::default(); workers],
            told: vec![0; workers],
            read: vec![0; workers],
            shared: 0,
        }
    }
}

impl Scheme for Published {
    fn admits(&mut self, worker: usize, now: Timestamp) -> bool {
        let left = self.limit.saturating_sub(self.read[worker]);
        self.own[worker].admits(left, now)
    }

    fn tick(&mut self, worker: usize, now: Timestamp) {
        self.shared += 1;
        self.told[worker] = self.own[worker].count(now);
        self.read[worker] = self.told.iter().sum::<u32>() - self.told[worker];
    }

    fn shared(&self) -> u64 {
        self.shared
    }
}

/// Each worker tells every 100 ms what came to it in the trailing second, and takes that part of the
/// limit.
pub struct Proportional {
    limit: u32,
    arrived: Vec<Second>,
    told: Vec<u32>,
    parts: Vec<(u32, Second)>,
    shared: u64,
}

impl Proportional {
    pub fn new(workers: usize, limit: u32) -> Self {
        let part = limit / workers as u32;
        Self {
            limit,
            arrived: vec![Second::default(); workers],
            told: vec![0; workers],
            parts: vec![(part, Second::default()); workers],
            shared: 0,
        }
    }
}

impl Scheme for Proportional {
    fn admits(&mut self, worker: usize, now: Timestamp) -> bool {
        self.arrived[worker].admits(u32::MAX, now);
        let (limit, second) = &mut self.parts[worker];
        second.admits(*limit, now)
    }

    fn tick(&mut self, worker: usize, now: Timestamp) {
        self.shared += 1;
        self.told[worker] = self.arrived[worker].count(now);
        let all: u32 = self.told.iter().sum();
        if all > 0 {
            let part = f64::from(self.told[worker]) / f64::from(all);
            self.parts[worker].0 = (f64::from(self.limit) * part) as u32;
        }
    }

    fn shared(&self) -> u64 {
        self.shared
    }
}
