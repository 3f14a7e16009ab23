//! What everybody wants to reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tidegate::engine::StreamId;

/// What an upstream can do.
#[derive(Clone, Copy, Debug)]
pub struct Bears {
    /// As many as can be worked for at once without anybody being slower for it.
    ///
    /// With more of them, everybody's work goes on at `(slots / working) ^ 1.5` of the speed:
    /// shared, and some of it lost to contention.
    pub slots: u32,
    /// As many as may be open; the others are refused at once.
    pub most: usize,
}

/// How it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// It works at this part of its speed; 0: it accepts, and never answers.
    Works(f64),
    /// It is down: all connections are closed, and none is accepted.
    Down,
}

impl Health {
    /// The part of its speed.
    pub fn speed(self) -> f64 {
        match self {
            Self::Works(speed) => speed,
            Self::Down => 0.0,
        }
    }
}

/// An upstream that shares what it can do alike among those it works for.
///
/// Everybody's work goes on at the same speed, so one number says how far all of them are.
#[derive(Debug)]
pub struct Upstream {
    bears: Bears,
    health: Health,
    /// Nanoseconds of work that anybody got who was here from the beginning.
    done: f64,
    since: Duration,
    /// Those that are open, and what `done` will be when they are answered; none: they were.
    open: BTreeMap<StreamId, Option<u64>>,
    jobs: BTreeSet<(u64, StreamId)>,
    peak: usize,
}

impl Upstream {
    /// One that is well.
    pub fn new(bears: Bears) -> Self {
        Self {
            bears,
            health: Health::Works(1.0),
            done: 0.0,
            since: Duration::ZERO,
            open: BTreeMap::new(),
            jobs: BTreeSet::new(),
            peak: 0,
        }
    }

    fn speed(&self) -> f64 {
        const CONTENTION: f64 = 1.5;
        let slots = f64::from(self.bears.slots);
        let working = (self.jobs.len() as f64).max(slots);
        self.health.speed() * (slots / working).powf(CONTENTION)
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_nanos() as f64;
        self.done += passed * self.speed();
        self.since = now;
    }

    /// Somebody connects who wants so much work; whether it was accepted.
    pub fn enter(&mut self, stream: StreamId, work: Duration, now: Duration) -> bool {
        self.advance(now);
        if self.health == Health::Down || self.open.len() >= self.bears.most {
            return false;
        }
        let end = self.done as u64 + work.as_nanos() as u64;
        self.open.insert(stream, Some(end));
        self.jobs.insert((end, stream));
        self.peak = self.peak.max(self.open.len());
        true
    }

    /// Somebody leaves; its work is not gone on with.
    pub fn leave(&mut self, stream: StreamId, now: Duration) {
        self.advance(now);
        if let Some(Some(end)) = self.open.remove(&stream) {
            self.jobs.remove(&(end, stream));
        }
    }

    /// When the next one is answered, if nothing changes.
    pub fn next_answer_at(&self) -> Option<Duration> {
        let (end, _) = self.jobs.first()?;
        let speed = self.speed();
        let left = (*end as f64 - self.done).max(0.0) / speed;
        (speed > 0.0).then(|| self.since + Duration::from_nanos(left.ceil() as u64))
    }

    /// Answers one whose work is done by now; it stays open.
    pub fn answer(&mut self, now: Duration) -> Option<StreamId> {
        self.advance(now);
        let &(end, stream) = self.jobs.first()?;
        if end as f64 > self.done + 1.0 {
            return None;
        }
        self.jobs.remove(&(end, stream));
        self.open.insert(stream, None);
        Some(stream)
    }

    /// Its health changes; who is thrown out.
    pub fn turn(&mut self, health: Health, now: Duration) -> Vec<StreamId> {
        self.advance(now);
        self.health = health;
        if health != Health::Down {
            return Vec::new();
        }
        self.throw_out(|| true)
    }

    /// Closes some of those that are open.
    pub fn throw_out(&mut self, mut which: impl FnMut() -> bool) -> Vec<StreamId> {
        let gone: Vec<StreamId> = self.open.keys().copied().filter(|_| which()).collect();
        for stream in &gone {
            if let Some(Some(end)) = self.open.remove(stream) {
                self.jobs.remove(&(end, *stream));
            }
        }
        gone
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The most that were open at once.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_many_as_there_are_slots_take_longer_than_twice_as_long() {
        let mut upstream = Upstream::new(Bears { slots: 2, most: 4 });
        let work = Duration::from_millis(100);
        let ids = (1..=5).map(StreamId);
        let entered: Vec<bool> = ids
            .map(|id| upstream.enter(id, work, Duration::ZERO))
            .collect();
        assert_eq!(entered, [true, true, true, true, false]);
        let at = upstream.next_answer_at().unwrap();
        assert!((0.282..0.284).contains(&at.as_secs_f64()), "{at:?}");
        assert_eq!(upstream.answer(at / 2), None);
        let answered = std::iter::from_fn(|| upstream.answer(at)).count();
        assert_eq!((answered, upstream.open()), (4, 4));
    }

    #[test]
    fn one_that_hangs_answers_when_it_works_again() {
        let mut upstream = Upstream::new(Bears { slots: 2, most: 4 });
        upstream.turn(Health::Works(0.0), Duration::ZERO);
        assert!(upstream.enter(StreamId(1), Duration::from_secs(1), Duration::ZERO));
        assert_eq!(upstream.next_answer_at(), None);
        upstream.turn(Health::Works(1.0), Duration::from_secs(5));
        assert_eq!(upstream.next_answer_at(), Some(Duration::from_secs(6)));
        assert_eq!(
            upstream.turn(Health::Down, Duration::from_secs(5)),
            [StreamId(1)]
        );
        assert!(!upstream.enter(StreamId(2), Duration::ZERO, Duration::from_secs(5)));
    }
}
