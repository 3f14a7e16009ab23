//! The gate of one rule in several workers, through whatever happens to them: arrivals, ends, ticks,
//! a clock that jumps, workers that die, shared bytes that are broken, a host that fails.

use std::{num::NonZeroU32, time::Duration};

use arbitrary::{Result, Unstructured};
use tidegate::{
    engine::{
        Fault, Gate, Hold, Limits, Order, Place, PoolRecord, StreamId, Tally, Timestamp, WorkerId,
    },
    store::SharedStore,
};

use crate::{
    story::{Story, jump, tell},
    world::{KEY, Rule, Step, Worker, World},
};

/// At most so many workers, dead or alive.
const WORKERS: usize = 6;
/// Somebody who has not ticked for so long may be taken for dead.
const STARVED: Duration = Duration::from_millis(1300);

/// The bytes choose a rule and what happens.
pub fn run(data: &[u8]) {
    tell::<Workers>(data);
}

struct Workers {
    world: World,
    ticked: Vec<Timestamp>,
    /// No more may be open: the limit, or what was open when it was lowered.
    ceiling: usize,
    /// Nothing has happened that lets arrivals pass, or hides what is open: the limit is exact.
    exact: bool,
    /// The longest of all queues that a rule has allowed.
    max_waiting: usize,
}

impl Story for Workers {
    const EVENTS: usize = 150;

    fn begin(u: &mut Unstructured<'_>) -> Result<Self> {
        let rule = rule(u)?;
        let workers = u.int_in_range(1..=4)?;
        let world = World::new(workers, rule);
        Ok(Self {
            ticked: vec![world.now(); workers as usize],
            world,
            ceiling: limit(&rule),
            exact: true,
            max_waiting: waiting(&rule),
        })
    }

    fn event(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let worker = usize::from(u.arbitrary::<u8>()?) % self.world.workers.len();
        match u.int_in_range(0..=17)? {
            0..=2 => self.arrive(worker, 1),
            3 => self.arrive(worker, u.int_in_range(1..=64)?),
            4..=5 => self.world.run(Step::Close(worker, u.arbitrary()?)),
            6 => {
                for _ in 0..u.int_in_range(1..=64)? {
                    self.world.run(Step::Close(worker, 0));
                }
            }
            7 => self.tick(worker),
            // What others do while this worker is between reading and writing.
            8 => {
                for _ in 0..u.int_in_range(1..=4)? {
                    let other = usize::from(u.arbitrary::<u8>()?) % self.world.workers.len();
                    let step = *u.choose(&[Step::Arrive(other), Step::Close(other, 0)])?;
                    self.world.meanwhile.borrow_mut().push_back(step);
                }
                self.arrive(worker, 1);
                self.world.meanwhile.borrow_mut().clear();
            }
            9 => self.world.pass(u.int_in_range(0..=30)?),
            10..=11 => self.beats(u.int_in_range(1..=8)?, u.int_in_range(4..=100)?),
            12 => self.beats(9, 300),
            13 => {
                let there = jump(u, self.world.now())?;
                self.world.set_now(there);
            }
            14 => self.world.give_back(worker),
            15 => self.live_or_die(worker, u)?,
            16 => self.spoil(u)?,
            _ => self.configure(worker, u)?,
        }
        Ok(())
    }

    fn check(&mut self) {
        let (rule, open) = (self.world.rule.get(), self.world.open());
        if self.exact {
            assert!(open <= self.ceiling, "{open} open, {} may be", self.ceiling);
        }
        self.ceiling = limit(&rule).max(open.min(self.ceiling));
        for worker in &self.world.workers {
            let worker = worker.borrow();
            let held = worker
                .streams
                .iter()
                .filter(|(_, place)| *place == Place::Waiting);
            // As many again have given up their place, and are told at the next tick.
            assert!(held.count() <= 2 * self.max_waiting);
        }
    }

    /// Everything ends well: nobody waits for ever, and every slot is there again.
    fn recover(mut self) {
        self.world.broken.set(false);
        self.world.contended.set(false);
        if self.world.workers.iter().all(|worker| worker.borrow().dead) {
            self.spawn();
        }
        for worker in &mut self.world.workers {
            worker.get_mut().gate.set_regime(false, 1.0);
        }
        self.beats(3, 300);
        // Nobody is held for longer than its rule says, and a beat.
        assert_eq!(self.world.count(|place| *place == Place::Waiting), 0);
        let all: Vec<StreamId> = self
            .world
            .workers
            .iter()
            .flat_map(|worker| {
                let worker = worker.borrow();
                worker.streams.iter().map(|(id, _)| *id).collect::<Vec<_>>()
            })
            .collect();
        all.into_iter().for_each(|id| self.world.close(id));
        // A clock that stepped back to where it was when somebody died makes the last beat of the dead
        // a new one: steady for 2 s, then 2 s until that beat, and 2 s after it.
        self.beats(21, 300);
        assert_eq!(self.world.open(), 0);

        let limits = self.world.rule.get().limits;
        let Some(limit) = limits.inflight.filter(|_| limits.connecting.is_none()) else {
            return;
        };
        let limit = limit.get() as usize;
        let living: Vec<usize> = (0..self.ticked.len())
            .filter(|nth| !self.world.workers[*nth].borrow().dead)
            .collect();
        if limits.arrivals_per_s.is_some() {
            // By a clock that stepped back, what came before is remembered for two spans of 1.25 s
            // at most.
            self.arrive(living[0], 1);
            self.beats(9, 300);
            self.arrive(living[0], 1);
            let tally = self.world.workers[living[0]].borrow().tally;
            assert!(self.world.open() > 0, "nobody came for a second: {tally:?}");
            return;
        }
        for _ in 0..4 {
            let missing = limit.saturating_sub(self.world.open());
            for nth in 0..missing {
                self.arrive(living[nth % living.len()], 1);
            }
            assert!(self.world.open() <= limit);
            self.beats(1, 100);
            assert!(self.world.open() <= limit);
        }
        assert_eq!(self.world.open(), limit, "every slot is free again");
    }
}

impl Workers {
    fn arrive(&mut self, worker: usize, many: u32) {
        for _ in 0..many {
            self.world.run(Step::Arrive(worker));
        }
    }

    fn tick(&mut self, worker: usize) {
        if self.world.workers[worker].borrow().dead {
            return;
        }
        let before = self.world.faults(Fault::WorkerReaped);
        self.world.tick(worker);
        let now = self.world.now();
        let buried = self.world.faults(Fault::WorkerReaped) - before;
        // Whoever lives and ticks is not buried.
        if buried > 0 {
            let late = |at: &Timestamp| now.since(*at).max(at.since(now)) > STARVED;
            let someone = (0..self.ticked.len()).filter(|other| *other != worker);
            let dead = someone
                .clone()
                .filter(|nth| self.world.workers[*nth].borrow().dead);
            let starved = someone.clone().any(|nth| late(&self.ticked[nth]));
            assert!(
                !self.exact || starved || dead.count() > 0,
                "buried alive at {now:?}"
            );
            // One that lives and was late may be among them.
            let mut living = someone.filter(|nth| !self.world.workers[*nth].borrow().dead);
            self.exact &= !living.any(|nth| late(&self.ticked[nth]));
        }
        self.ticked[worker] = now;
    }

    /// Time goes on, and everybody ticks.
    fn beats(&mut self, many: u32, millis: u64) {
        for _ in 0..many {
            self.world.pass(millis);
            (0..self.ticked.len()).for_each(|worker| self.tick(worker));
        }
    }

    /// A worker ends without a word, or one more begins.
    fn live_or_die(&mut self, worker: usize, u: &mut Unstructured<'_>) -> Result<()> {
        if u.arbitrary()? {
            self.world.run(Step::Die(worker));
        } else if self.ticked.len() < WORKERS {
            self.spawn();
        }
        Ok(())
    }

    fn spawn(&mut self) {
        let id = WorkerId(NonZeroU32::MIN.saturating_add(self.ticked.len() as u32));
        let now = self.world.now();
        let worker = Worker {
            gate: Gate::new(id, now),
            streams: Vec::new(),
            tally: Tally::default(),
            read: now,
            dead: false,
        };
        self.world.workers.push(worker.into());
        self.ticked.push(now);
    }

    /// The host fails, or what is shared is not what anybody wrote.
    fn spoil(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.exact = false;
        let mut store = self.world.store.clone();
        let (old, _) = store.load(KEY).expect("in memory").expect("a record");
        let new = match u.int_in_range(0..=5)? {
            0 => {
                self.world.broken.set(u.arbitrary()?);
                return Ok(());
            }
            1 => {
                self.world.contended.set(u.arbitrary()?);
                return Ok(());
            }
            2 => u.bytes(u.len().min(64))?.to_vec(),
            3 => {
                let mut new = Vec::new();
                PoolRecord::default().encode(&mut new);
                new
            }
            4 => old[..u.int_in_range(0..=old.len())?].to_vec(),
            _ => {
                // A number of it is another.
                let mut new = old;
                for _ in 0..u.int_in_range(1..=8)? {
                    let at = u.choose_index(new.len().max(1))?;
                    if let Some(byte) = new.get_mut(at) {
                        *byte = u.arbitrary()?;
                    }
                }
                new
            }
        };
        store.compare_and_set(KEY, &new, None).expect("in memory");
        Ok(())
    }

    /// Another configuration, or what all workers found out together.
    fn configure(&mut self, worker: usize, u: &mut Unstructured<'_>) -> Result<()> {
        if u.arbitrary()? {
            let part = f32::from(u.int_in_range(1_u8..=10)?) / 10.0;
            let surge = u.arbitrary()?;
            let worker = self.world.workers[worker].get_mut();
            worker.gate.set_regime(surge, part);
            return Ok(());
        }
        // Who waits does so by its own rule, so the mode stays.
        let shadow = self.world.rule.get().shadow;
        let rule = Rule { shadow, ..rule(u)? };
        let unlimited = self.world.rule.replace(rule).limits.inflight.is_none();
        for worker in &mut self.world.workers {
            worker.get_mut().gate.set_limit(rule.limits.inflight);
        }
        if unlimited {
            // What was open without a limit the others know with the next beat.
            self.beats(1, 100);
        }
        self.ceiling = limit(&rule).max(self.world.open());
        self.max_waiting = self.max_waiting.max(waiting(&rule));
        Ok(())
    }
}

fn rule(u: &mut Unstructured<'_>) -> Result<Rule> {
    const LIMITS: [u32; 8] = [0, 1, 2, 3, 5, 8, 20, 100];
    let limits = Limits {
        inflight: NonZeroU32::new(*u.choose(&LIMITS)?),
        arrivals_per_s: NonZeroU32::new(*u.choose(&[0, 0, 0, 1, 5, 50])?),
        connecting: NonZeroU32::new(*u.choose(&[0, 0, 0, 1, 3])?),
    };
    let max_wait = Duration::from_millis(u.int_in_range(1..=200)?);
    let hold = Hold {
        max_wait,
        max_waiting: NonZeroU32::MIN.saturating_add(u.int_in_range(0..=7)?),
        order: *u.choose(&[Order::NewestFirst, Order::OldestFirst])?,
    };
    Ok(Rule {
        limits,
        hold: u.arbitrary::<bool>()?.then_some(hold),
        shadow: u.ratio(1, 4)?,
    })
}

fn limit(rule: &Rule) -> usize {
    let limit = rule.limits.inflight;
    limit.map_or(usize::MAX, |limit| limit.get() as usize)
}

fn waiting(rule: &Rule) -> usize {
    rule.hold.map_or(0, |hold| hold.max_waiting.get() as usize)
}
