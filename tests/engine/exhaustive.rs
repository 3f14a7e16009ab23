//! Every interleaving of two workers and few slots, up to a depth.
//!
//! A step of one worker may be cut in two by a whole step of the other, between its reading and its
//! writing of the record. Other overlaps come to the same: of two workers that read one record, the
//! second to write has to begin anew.

use std::{
    collections::HashSet,
    fmt::Write,
    hash::{DefaultHasher, Hasher},
    num::NonZeroU32,
};

use tidegate::engine::{
    Arrival, Change, Class, Decision, Fault, Gate, Limits, Place, PoolRecord, Shared, StreamId,
    Terms, Timestamp, WorkerId,
};

/// Done by one of two workers, or by time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Arrive(usize),
    Close(usize),
    Tick(usize),
    /// Ends without a word; its streams end with it.
    Die(usize),
    /// As long as a beat.
    Pass,
}

const ACTS: [Act; 9] = [
    Act::Arrive(0),
    Act::Arrive(1),
    Act::Close(0),
    Act::Close(1),
    Act::Tick(0),
    Act::Tick(1),
    Act::Die(0),
    Act::Die(1),
    Act::Pass,
];

#[derive(Clone)]
struct Worker {
    gate: Gate,
    open: Vec<Place>,
    /// When it read the clock last.
    read: Timestamp,
    dead: bool,
}

#[derive(Clone)]
struct Model {
    terms: Terms,
    workers: [Option<Worker>; 2],
    record: PoolRecord,
    version: u32,
    now: Timestamp,
}

/// The record as one worker sees it; once, the other does something while it is being changed.
struct Racing<'a> {
    model: &'a mut Model,
    meanwhile: Option<Act>,
}

impl Shared<PoolRecord> for Racing<'_> {
    fn update<A>(
        &mut self,
        mut change: impl FnMut(&mut PoolRecord) -> Change<A>,
    ) -> Result<A, Fault> {
        loop {
            let mut record = self.model.record.clone();
            let version = self.model.version;
            if let Some(act) = self.meanwhile.take() {
                self.model.act(act, None);
            }
            match change(&mut record) {
                Change::Keep(answer) => return Ok(answer),
                Change::Write(_) if self.model.version != version => {}
                Change::Write(answer) => {
                    self.model.record = record;
                    self.model.version += 1;
                    return Ok(answer);
                }
            }
        }
    }
}

impl Model {
    fn new(limit: u32) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let worker = |id: u32| Worker {
            gate: Gate::new(WorkerId(NonZeroU32::new(id).expect("not zero")), now),
            open: Vec::new(),
            read: now,
            dead: false,
        };
        Self {
            terms: Terms {
                limits: Limits {
                    inflight: NonZeroU32::new(limit),
                    ..Limits::default()
                },
                ..Terms::default()
            },
            workers: [Some(worker(1)), Some(worker(2))],
            record: PoolRecord::default(),
            version: 0,
            now,
        }
    }

    /// Does it, if its worker is there and not in the middle of something else; whether it was admitted.
    fn act(&mut self, act: Act, meanwhile: Option<Act>) -> bool {
        let index = match act {
            Act::Pass => {
                self.now = self.now.after(std::time::Duration::from_millis(100));
                return false;
            }
            Act::Arrive(index) | Act::Close(index) | Act::Tick(index) | Act::Die(index) => index,
        };
        let Some(mut worker) = self.workers[index].take_if(|worker| !worker.dead) else {
            return false;
        };
        let mut admitted = false;
        match act {
            Act::Arrive(_) => {
                if worker.gate.asks(&self.terms) {
                    worker.read = self.now;
                }
                let terms = self.terms;
                let arrival = Arrival {
                    id: StreamId(0),
                    terms: &terms,
                    class: Class::default(),
                    counted: None,
                };
                let now = worker.read;
                let mut racing = Racing {
                    model: self,
                    meanwhile,
                };
                let (decision, place) = worker.gate.on_arrival(&arrival, now, &mut racing);
                admitted = decision == Decision::Admit;
                if admitted {
                    worker.open.push(place);
                }
            }
            Act::Close(_) => {
                if let Some(place) = worker.open.pop() {
                    worker.gate.on_close(StreamId(0), place);
                }
            }
            Act::Tick(_) => {
                worker.read = self.now;
                let now = self.now;
                let mut racing = Racing {
                    model: self,
                    meanwhile,
                };
                worker.gate.on_tick(now, &mut racing, &mut Vec::new());
            }
            Act::Die(_) => {
                worker.dead = true;
                worker.open.clear();
            }
            Act::Pass => {}
        }
        let _ = worker.gate.take_tally();
        self.workers[index] = Some(worker);
        admitted
    }

    fn open(&self) -> usize {
        let workers = self.workers.iter().flatten();
        workers.map(|worker| worker.open.len()).sum()
    }

    /// What must hold at any time.
    fn check(&self, path: &[(Act, Option<Act>)]) {
        let limit = self.terms.limits.inflight.map_or(0, NonZeroU32::get);
        assert!(self.open() <= limit as usize, "{path:?}");
        let totals = self.record.totals();
        assert!(totals.held <= u64::from(limit), "{totals:?}: {path:?}");
        for (id, worker) in (1..).zip(&self.workers) {
            let rows = self.record.rows().iter();
            let mut own = rows.filter(|row| row.worker.0.get() == id);
            let held = own.next().map_or(0, |row| row.held());
            let open = worker.as_ref().map_or(0, |worker| worker.open.len());
            assert!(open <= held as usize, "{open} of {held}: {path:?}");
        }
    }

    /// Whoever lives gets every slot, at the latest after everybody's tick, and after the dead are
    /// buried.
    fn comes_back(mut self, path: &[(Act, Option<Act>)]) {
        let limit = self.terms.limits.inflight.map_or(0, NonZeroU32::get) as usize;
        for living in 0..2 {
            let dead = |worker: &Option<Worker>| worker.as_ref().is_some_and(|worker| worker.dead);
            if dead(&self.workers[living]) {
                continue;
            }
            let arrive = |model: &mut Self| while model.act(Act::Arrive(living), None) {};
            arrive(&mut self);
            let beats = if dead(&self.workers[1 - living]) {
                45
            } else {
                1
            };
            for _ in 0..beats {
                self.act(Act::Pass, None);
                self.act(Act::Tick(1 - living), None);
                self.act(Act::Tick(living), None);
            }
            arrive(&mut self);
            assert_eq!(self.open(), limit, "{path:?}, then {living}");
            while self.workers[living]
                .as_ref()
                .is_some_and(|w| !w.open.is_empty())
            {
                self.act(Act::Close(living), None);
            }
        }
    }

    /// All that decides what happens next, but for the path to it.
    fn key(&self) -> u64 {
        struct Hash(DefaultHasher);
        impl Write for Hash {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let mut hash = Hash(DefaultHasher::new());
        let mut bytes = Vec::new();
        self.record.encode(&mut bytes);
        hash.0.write(&bytes);
        for worker in self.workers.iter().flatten() {
            let (gate, open) = (&worker.gate, worker.open.len());
            let (read, dead) = (worker.read, worker.dead);
            write!(hash, "{gate:?}{open}{read:?}{dead}").expect("it hashes");
        }
        write!(hash, "{:?}", self.now).expect("it hashes");
        hash.0.finish()
    }
}

/// Walks through all states within `depth` steps; how many there are.
fn explore(start: &Model, depth: usize) -> usize {
    let mut seen = HashSet::from([start.key()]);
    let mut layer = vec![(start.clone(), Vec::new())];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (model, path) in layer {
            for act in ACTS {
                let others: &[Option<Act>] = match act {
                    Act::Arrive(0) | Act::Tick(0) => &[
                        None,
                        Some(Act::Arrive(1)),
                        Some(Act::Close(1)),
                        Some(Act::Tick(1)),
                    ],
                    Act::Arrive(1) | Act::Tick(1) => &[
                        None,
                        Some(Act::Arrive(0)),
                        Some(Act::Close(0)),
                        Some(Act::Tick(0)),
                    ],
                    _ => &[None],
                };
                for meanwhile in others {
                    let mut model = model.clone();
                    let mut path = path.clone();
                    path.push((act, *meanwhile));
                    model.act(act, *meanwhile);
                    if seen.insert(model.key()) {
                        model.check(&path);
                        model.clone().comes_back(&path);
                        next.push((model, path));
                    }
                }
            }
        }
        layer = next;
    }
    seen.len()
}

#[test]
fn two_workers_never_open_more_than_two_slots_and_lose_none() {
    let states = explore(&Model::new(2), 5);
    assert!(states > 1000, "only {states}");
}

#[test]
fn two_workers_with_idle_slots_never_open_more_than_the_limit_and_lose_none() {
    let limit = 100;
    let mut start = Model::new(limit);
    // So many come to one that it pays to take slots in advance.
    for _ in 0..400 {
        assert!(start.act(Act::Arrive(1), None));
        start.act(Act::Close(1), None);
    }
    for act in [Act::Tick(1), Act::Pass, Act::Tick(1), Act::Pass] {
        start.act(act, None);
    }
    (0..2).for_each(|_| assert!(start.act(Act::Arrive(1), None)));
    // The other takes nearly all that is left, so that few steps fill all.
    let held = start.record.totals().held as u32;
    (0..limit - held - 2).for_each(|_| assert!(start.act(Act::Arrive(0), None)));
    let totals = start.record.totals();
    assert!(totals.held > totals.open, "nothing is idle: {totals:?}");
    let states = explore(&start, 4);
    assert!(states > 1000, "only {states}");
}
