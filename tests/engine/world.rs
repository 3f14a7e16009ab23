//! Several workers, one store, one clock.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    num::NonZeroU32,
    time::Duration,
};

use tidegate::{
    engine::{
        Arrival, Class, Decision, Fault, Gate, Hold, Limits, Order, Outcome, Place, Reason,
        StreamId, Tally, Terms, Timestamp, WorkerId,
    },
    store::{Cas, MemoryStore, SharedRecord, SharedStore, StoreError},
};

pub const KEY: &str = "tidegate/1/test/pool";

pub fn some(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

pub fn inflight(limit: u32) -> Limits {
    Limits {
        inflight: some(limit),
        ..Limits::default()
    }
}

pub fn hold(max_wait_ms: u64, max_waiting: u32, order: Order) -> Hold {
    Hold {
        max_wait: Duration::from_millis(max_wait_ms),
        max_waiting: NonZeroU32::new(max_waiting).expect("not zero"),
        order,
    }
}

/// What a worker does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Arrive(usize),
    /// Closes the stream of that number, counted over the worker's streams.
    Close(usize, usize),
    Tick(usize),
    /// The worker ends without a word, and its streams with it.
    Die(usize),
}

/// One worker: its gate, and the streams that the host would know.
pub struct Worker {
    pub gate: Gate,
    pub streams: Vec<(StreamId, Place)>,
    pub tally: Tally,
    /// When it read the clock last.
    pub read: Timestamp,
    pub dead: bool,
}

/// What the rule of all workers says.
#[derive(Clone, Copy)]
pub struct Rule {
    pub limits: Limits,
    pub hold: Option<Hold>,
    pub shadow: bool,
}

pub struct World {
    pub store: MemoryStore,
    pub workers: Vec<RefCell<Worker>>,
    pub rule: Cell<Rule>,
    now: Cell<Timestamp>,
    next_id: Cell<u32>,
    /// What other workers do between a worker's reading and its writing of the record.
    pub meanwhile: RefCell<VecDeque<Step>>,
    /// Every load fails.
    pub broken: Cell<bool>,
    /// Somebody else always gets in between.
    pub contended: Cell<bool>,
    /// How often the record was read.
    pub reads: Cell<u64>,
}

/// The store as one worker sees it, while the others go on.
struct Racing<'a>(&'a World);

impl SharedStore for Racing<'_> {
    fn load(&mut self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        if self.0.broken.get() {
            return Err(StoreError::Host);
        }
        self.0.reads.set(self.0.reads.get() + 1);
        let found = self.0.store.clone().load(key);
        let step = self.0.meanwhile.borrow_mut().pop_front();
        if let Some(step) = step {
            self.0.run(step);
        }
        found
    }

    fn compare_and_set(
        &mut self,
        key: &str,
        value: &[u8],
        cas: Option<Cas>,
    ) -> Result<(), StoreError> {
        if self.0.contended.get() {
            return Err(StoreError::Mismatch);
        }
        self.0.store.clone().compare_and_set(key, value, cas)
    }
}

impl World {
    pub fn new(workers: u32, rule: Rule) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let world = Self {
            store: MemoryStore::default(),
            workers: (1..=workers)
                .map(|id| {
                    RefCell::new(Worker {
                        gate: Gate::new(WorkerId(some(id).expect("not zero")), now),
                        streams: Vec::new(),
                        tally: Tally::default(),
                        read: now,
                        dead: false,
                    })
                })
                .collect(),
            rule: Cell::new(rule),
            now: Cell::new(now),
            next_id: Cell::new(1),
            meanwhile: RefCell::default(),
            broken: Cell::new(false),
            contended: Cell::new(false),
            reads: Cell::new(0),
        };
        // As the configuration does, alone on the main thread: the record exists before a worker.
        let mut first = Vec::new();
        tidegate::engine::PoolRecord::default().encode(&mut first);
        world
            .store
            .clone()
            .compare_and_set(KEY, &first, None)
            .expect("a store in memory");
        world
    }

    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    pub fn set_now(&self, now: Timestamp) {
        self.now.set(now);
    }

    pub fn pass(&self, millis: u64) {
        self.now
            .set(self.now().after(Duration::from_millis(millis)));
    }

    /// Does a step, unless its worker is in the middle of another.
    pub fn run(&self, step: Step) {
        let (Step::Arrive(index) | Step::Close(index, _) | Step::Tick(index) | Step::Die(index)) =
            step;
        let Ok(mut worker) = self.workers[index % self.workers.len()].try_borrow_mut() else {
            return;
        };
        if worker.dead {
            return;
        }
        match step {
            Step::Arrive(_) => {
                self.arrive_at(&mut worker);
            }
            Step::Close(_, nth) => {
                if !worker.streams.is_empty() {
                    let nth = nth % worker.streams.len();
                    let (id, place) = worker.streams.swap_remove(nth);
                    worker.gate.on_close(id, place);
                }
            }
            Step::Tick(_) => {
                self.tick_at(&mut worker);
            }
            Step::Die(_) => {
                worker.dead = true;
                worker.streams.clear();
            }
        }
        let tally = worker.gate.take_tally();
        add(&mut worker.tally, &tally);
    }

    /// The stream that arrives next.
    pub fn next(&self) -> StreamId {
        StreamId(self.next_id.get())
    }

    pub fn arrive(&self, index: usize) -> Decision {
        let mut worker = self.workers[index].borrow_mut();
        let decision = self.arrive_at(&mut worker);
        let tally = worker.gate.take_tally();
        add(&mut worker.tally, &tally);
        decision
    }

    fn arrive_at(&self, worker: &mut Worker) -> Decision {
        let id = StreamId(self.next_id.replace(self.next_id.get() + 1));
        let rule = self.rule.get();
        let terms = Terms {
            limits: rule.limits,
            hold: rule.hold,
            shadow: rule.shadow,
            ..Terms::default()
        };
        let arrival = Arrival {
            id,
            terms: &terms,
            class: Class::default(),
            counted: None,
        };
        // As the shell does: the last time will do where the gate does not ask.
        if worker.gate.asks(&terms) {
            worker.read = self.now();
        }
        let mut racing = Racing(self);
        let mut pool = SharedRecord::new(&mut racing, KEY, ());
        let (decision, place) = worker.gate.on_arrival(&arrival, worker.read, &mut pool);
        if place != Place::Nowhere {
            worker.streams.push((id, place));
        }
        decision
    }

    pub fn tick(&self, index: usize) -> Vec<Outcome> {
        let mut worker = self.workers[index].borrow_mut();
        let outcomes = self.tick_at(&mut worker);
        let tally = worker.gate.take_tally();
        add(&mut worker.tally, &tally);
        outcomes
    }

    fn tick_at(&self, worker: &mut Worker) -> Vec<Outcome> {
        let mut racing = Racing(self);
        let mut pool = SharedRecord::new(&mut racing, KEY, ());
        let mut out = Vec::new();
        worker.read = self.now();
        worker.gate.on_tick(self.now(), &mut pool, &mut out);
        for outcome in &out {
            let known = worker
                .streams
                .iter_mut()
                .find(|(id, _)| *id == outcome.id)
                .expect("an outcome is of a stream that lives");
            known.1 = outcome.place;
        }
        worker.streams.retain(|(_, place)| *place != Place::Nowhere);
        out
    }

    /// Every worker that lives ticks.
    pub fn tick_all(&self) {
        for index in 0..self.workers.len() {
            if !self.workers[index].borrow().dead {
                self.tick(index);
            }
        }
    }

    /// A beat of 100 ms, in which every worker ticks.
    pub fn beat(&self) {
        self.pass(100);
        self.tick_all();
    }

    /// Closes the newest stream of a worker.
    pub fn close_newest(&self, index: usize) {
        let mut worker = self.workers[index].borrow_mut();
        if let Some((id, place)) = worker.streams.pop() {
            worker.gate.on_close(id, place);
        }
    }

    /// Those that are held at a worker leave.
    pub fn close_held(&self, index: usize) {
        let mut worker = self.workers[index].borrow_mut();
        let worker = &mut *worker;
        worker.streams.retain(|(id, place)| {
            let held = *place == Place::Waiting;
            if held {
                worker.gate.on_close(*id, *place);
            }
            !held
        });
    }

    /// As a shell does that knows the upstream's side to be closed.
    pub fn give_back(&self, index: usize) {
        let mut racing = Racing(self);
        let mut pool = SharedRecord::new(&mut racing, KEY, ());
        let mut worker = self.workers[index].borrow_mut();
        worker.gate.give_back(self.now(), &mut pool);
    }

    /// Closes a stream wherever it is; one that was refused is nowhere.
    pub fn close(&self, id: StreamId) {
        for worker in &self.workers {
            let mut worker = worker.borrow_mut();
            if let Some(nth) = worker.streams.iter().position(|(known, _)| *known == id) {
                let (id, place) = worker.streams.swap_remove(nth);
                worker.gate.on_close(id, place);
            }
        }
    }

    /// How many streams of all workers satisfy something.
    pub fn count(&self, wanted: impl Fn(&Place) -> bool) -> usize {
        self.workers
            .iter()
            .map(|worker| {
                let worker = worker.borrow();
                worker.streams.iter().filter(|(_, p)| wanted(p)).count()
            })
            .sum()
    }

    pub fn open(&self) -> usize {
        self.count(|place| matches!(place, Place::Open { .. }))
    }

    pub fn rejected(&self, reason: Reason) -> u32 {
        self.workers
            .iter()
            .map(|worker| worker.borrow().tally.rejected[reason.index()])
            .sum()
    }

    pub fn faults(&self, fault: Fault) -> u32 {
        self.workers
            .iter()
            .map(|worker| worker.borrow().tally.faults[fault.index()])
            .sum()
    }
}

fn add(sum: &mut Tally, more: &Tally) {
    sum.arrivals += more.arrivals;
    sum.admitted += more.admitted;
    sum.held += more.held;
    for (sum, more) in [
        (&mut sum.rejected[..], &more.rejected[..]),
        (&mut sum.shadow_rejected[..], &more.shadow_rejected[..]),
        (&mut sum.faults[..], &more.faults[..]),
    ] {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }
}
