//! The engine's own gates, each in a worker.

use std::{cell::Cell, collections::VecDeque, num::NonZeroU32, rc::Rc, time::Duration};

use tidegate::{
    engine::{
        Arrival, Class, Decision, Gate, Limits, Place, PoolRecord, StreamId, Terms, Timestamp,
        WorkerId,
    },
    store::{Cas, MemoryStore, SharedRecord, SharedStore, StoreError},
};

use crate::model::Scheme;

/// How long a slot is taken.
const STAY: Duration = Duration::from_millis(10);

/// A store that counts how often it is read.
struct Counting {
    store: MemoryStore,
    reads: Rc<Cell<u64>>,
}

impl SharedStore for Counting {
    fn load(&mut self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        self.reads.set(self.reads.get() + 1);
        self.store.load(key)
    }

    fn compare_and_set(
        &mut self,
        key: &str,
        value: &[u8],
        cas: Option<Cas>,
    ) -> Result<(), StoreError> {
        self.store.compare_and_set(key, value, cas)
    }
}

struct Worker {
    gate: Gate,
    open: VecDeque<(Timestamp, Place)>,
    /// When it read the clock last.
    read: Timestamp,
}

/// Gates with one rule.
pub struct Leases {
    terms: Terms,
    workers: Vec<Worker>,
    store: Counting,
}

impl Leases {
    /// `limit` arrivals a second.
    pub fn of_tokens(workers: usize, limit: u32) -> Self {
        let limits = Limits {
            arrivals_per_s: NonZeroU32::new(limit),
            ..Limits::default()
        };
        Self::new(workers, limits)
    }

    /// `limit` open at once.
    pub fn of_slots(workers: usize, limit: u32) -> Self {
        let limits = Limits {
            inflight: NonZeroU32::new(limit),
            ..Limits::default()
        };
        Self::new(workers, limits)
    }

    fn new(workers: usize, limits: Limits) -> Self {
        let ids = (1..).filter_map(NonZeroU32::new).take(workers);
        let worker = |id| Worker {
            gate: Gate::new(WorkerId(id), Timestamp::ZERO),
            open: VecDeque::new(),
            read: Timestamp::ZERO,
        };
        Self {
            terms: Terms {
                limits,
                ..Terms::default()
            },
            workers: ids.map(worker).collect(),
            store: Counting {
                store: MemoryStore::default(),
                reads: Rc::default(),
            },
        }
    }

    fn close_the_ended(&mut self, worker: usize, now: Timestamp) {
        let worker = &mut self.workers[worker];
        while let Some((until, place)) = worker.open.front().copied()
            && until <= now
        {
            worker.open.pop_front();
            worker.gate.on_close(StreamId(0), place);
        }
    }
}

const KEY: &str = "pool";

impl Scheme for Leases {
    fn admits(&mut self, worker: usize, now: Timestamp) -> bool {
        self.close_the_ended(worker, now);
        let worker = &mut self.workers[worker];
        if worker.gate.asks(&self.terms) {
            worker.read = now;
        }
        let arrival = Arrival {
            id: StreamId(0),
            terms: &self.terms,
            class: Class::default(),
            counted: None,
        };
        let mut pool = SharedRecord::<_, PoolRecord>::new(&mut self.store, KEY, ());
        let (decision, place) = worker.gate.on_arrival(&arrival, worker.read, &mut pool);
        if place != Place::Nowhere {
            worker.open.push_back((now.after(STAY), place));
        }
        decision == Decision::Admit
    }

    fn tick(&mut self, worker: usize, now: Timestamp) {
        self.close_the_ended(worker, now);
        let worker = &mut self.workers[worker];
        worker.read = now;
        let mut pool = SharedRecord::<_, PoolRecord>::new(&mut self.store, KEY, ());
        worker.gate.on_tick(now, &mut pool, &mut Vec::new());
        let _ = worker.gate.take_tally();
    }

    fn shared(&self) -> u64 {
        self.store.reads.get()
    }
}
