//! The gates of all rules of one virtual machine, and what they tell the operator.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::{num::NonZeroU32, time::Duration};

use super::{
    ending::ending,
    host::SharedData,
    matching::Kind,
    metrics::Metrics,
    watch::{Moment, Watch},
};
#[cfg(feature = "inspect")]
use crate::engine::Answers;
use crate::{
    config::Rule,
    engine::{
        Arrival, Decision, Fault, Gate, Mode, Outcome, Place, PoolRecord, RATE_SPAN, StreamId,
        Tally, Timestamp, Totals, WorkerId,
    },
    store::{self, SharedRecord},
};

/// Everything in the host's shared data begins with this; the number changes with the layout.
pub const PREFIX: &str = "tidegate/1";

/// How often what happened is told to the host.
const TELL_MS: u64 = 100;

/// The rule that a configuration means, and the gate that all configurations of this machine
/// which name it share.
#[derive(Debug)]
pub struct Guard {
    pub rule: Rule,
    gate: usize,
    /// Keeps the gate: it is dropped when nobody has its token.
    _token: Rc<()>,
}

impl AsRef<Rule> for Guard {
    fn as_ref(&self) -> &Rule {
        &self.rule
    }
}

#[derive(Debug)]
struct Entry {
    name: String,
    key: String,
    token: Rc<()>,
    metrics: Metrics,
    /// None until this machine is a worker.
    gate: Option<Gate>,
    watch: Watch,
    /// What the gauges show.
    shown: (Totals, u64),
}

/// The gates of one virtual machine, by the names of their rules.
#[derive(Debug, Default)]
pub struct Gates {
    /// A free place is `None`, so that the others keep theirs.
    entries: Vec<Option<Entry>>,
    worker: Option<WorkerId>,
    told: Timestamp,
}

impl Gates {
    /// Finds the gate of a rule, or makes it.
    pub fn guard(&mut self, rule: Rule) -> Guard {
        let name = rule.name.as_str();
        let found = self
            .entries
            .iter()
            .position(|entry| entry.as_ref().is_some_and(|entry| entry.name == name));
        let index = found.unwrap_or_else(|| self.insert(name));
        let limit = rule.limits.inflight.map_or(0, NonZeroU32::get);
        let token = self.entry(index).map_or_else(Rc::default, |entry| {
            entry.metrics.show_limit(limit);
            entry.watch.configure(rule.surge, limit);
            Rc::clone(&entry.token)
        });
        Guard {
            rule,
            gate: index,
            _token: token,
        }
    }

    fn insert(&mut self, name: &str) -> usize {
        let entry = Entry {
            name: name.into(),
            key: format!("{PREFIX}/{name}/pool"),
            token: Rc::default(),
            metrics: Metrics::define(name),
            gate: None,
            watch: Watch::new(name),
            shown: (Totals::default(), 0),
        };
        // The first to need a record is the configuration on the main thread, alone; so that no
        // two workers begin one at the same time.
        let _ = pool(&mut SharedData, &entry.key).begin();
        match self.entries.iter().position(Option::is_none) {
            Some(free) => {
                if let Some(place) = self.entries.get_mut(free) {
                    *place = Some(entry);
                }
                free
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        }
    }

    fn entry(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)?.as_mut()
    }

    /// This machine's number among the workers, drawn at its first stream.
    fn worker(&mut self) -> Result<WorkerId, Fault> {
        if let Some(worker) = self.worker {
            return Ok(worker);
        }
        let worker = next_worker()?;
        self.worker = Some(worker);
        Ok(worker)
    }

    /// Decides about an arrival.
    ///
    /// When there is no worker's number to be had, the arrival goes on uncounted.
    pub fn on_arrival(
        &mut self,
        guard: &Guard,
        id: StreamId,
        kind: Kind,
        now: Timestamp,
    ) -> (Decision, Place) {
        let worker = self.worker();
        let Some(entry) = self.entry(guard.gate) else {
            return (Decision::Admit, Place::Nowhere);
        };
        let worker = match worker {
            Ok(worker) => worker,
            Err(fault) => {
                entry.metrics.fault(fault);
                return (Decision::Admit, Place::Nowhere);
            }
        };
        let gate = entry.gate.get_or_insert_with(|| Gate::new(worker, now));
        let arrival = Arrival {
            id,
            limits: guard.rule.limits,
            hold: guard.rule.hold,
            shadow: guard.rule.mode != Mode::Enforce,
        };
        let mut shared = SharedData;
        let mut pool = pool(&mut shared, &entry.key);
        let answer = gate.on_arrival(&arrival, now, &mut pool);
        count_replaced(&entry.metrics, &pool);
        let moment = Moment {
            now,
            worker,
            seen: gate.seen(),
            metrics: &entry.metrics,
        };
        entry.watch.on_arrival(&guard.rule.key, kind, moment);
        answer
    }

    /// The upstream answered.
    pub fn on_answered(&mut self, guard: &Guard, place: &mut Place) {
        if let Some(gate) = self.gate(guard) {
            gate.on_answered(place);
        }
    }

    /// A stream ended.
    ///
    /// A request's slot is free at once: its upstream's part is over by now. The upstream's side of
    /// a connection is not closed yet, so its slot is free with the next call.
    pub fn on_close(
        &mut self,
        guard: &Guard,
        id: StreamId,
        place: Place,
        kind: Kind,
        now: Timestamp,
    ) {
        let Some(entry) = self.entry(guard.gate) else {
            return;
        };
        let Some(gate) = &mut entry.gate else { return };
        gate.on_close(id, place);
        if kind == Kind::Http {
            let mut shared = SharedData;
            gate.give_back(now, &mut pool(&mut shared, &entry.key));
        }
    }

    /// A stream that was open has ended; how, is asked if it is worth it.
    pub fn on_ending(&mut self, guard: &Guard, kind: Kind, lasted: Duration) {
        if let Some(entry) = self.entry(guard.gate)
            && entry.watch.looks(kind)
        {
            entry.watch.on_answers(ending(kind, lasted), &entry.metrics);
        }
    }

    /// The upstream ended something in a way that was seen.
    #[cfg(feature = "inspect")]
    pub fn on_answers(&mut self, guard: &Guard, answers: Answers) {
        if let Some(entry) = self.entry(guard.gate) {
            entry.watch.on_answers(answers, &entry.metrics);
        }
    }

    /// A caller came that is known from what it sent first.
    #[cfg(feature = "inspect")]
    pub fn on_caller(&mut self, guard: &Guard, caller: &[u8]) {
        if let Some(entry) = self.entry(guard.gate) {
            entry.watch.on_caller(caller);
        }
    }

    fn gate(&mut self, guard: &Guard) -> Option<&mut Gate> {
        self.entry(guard.gate)?.gate.as_mut()
    }

    /// One waited this long and was admitted.
    pub fn waited(&mut self, guard: &Guard, millis: u64) {
        if let Some(entry) = self.entry(guard.gate) {
            entry.metrics.waited(millis);
        }
    }

    /// Counts a fault of the shell's.
    pub fn fault(&mut self, guard: &Guard, fault: Fault) {
        if let Some(entry) = self.entry(guard.gate) {
            entry.metrics.fault(fault);
        }
    }

    /// Lets every gate serve, refuse and tell; what became of those that waited is in `outcomes`.
    pub fn on_tick(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        let tell = now.as_millis().abs_diff(self.told.as_millis()) >= TELL_MS;
        if tell {
            self.told = now;
        }
        let worker = self.worker;
        for place in &mut self.entries {
            let Some(entry) = place else { continue };
            if let Some(gate) = &mut entry.gate {
                let mut shared = SharedData;
                let mut pool = pool(&mut shared, &entry.key);
                gate.on_tick(now, &mut pool, outcomes);
                count_replaced(&entry.metrics, &pool);
            }
            if tell {
                entry.tell(now, worker);
            }
            let idle = entry.gate.as_ref().is_none_or(Gate::is_idle);
            if idle && Rc::strong_count(&entry.token) == 1 {
                *place = None;
            }
        }
    }

    /// Whether somebody at the gate of a rule waits for the next tick.
    pub fn hurries(&self, guard: &Guard) -> bool {
        self.entries
            .get(guard.gate)
            .and_then(|entry| entry.as_ref()?.gate.as_ref())
            .is_some_and(Gate::needs_fast_tick)
    }

    /// Whether anything is connecting that a rule limits.
    #[cfg(not(feature = "inspect"))]
    pub fn connects(&self) -> bool {
        self.gates().any(Gate::connects)
    }

    /// Whether somebody waits for the next tick.
    pub fn needs_fast_tick(&self) -> bool {
        self.gates().any(Gate::needs_fast_tick)
    }

    /// Whether nothing is open here, nor anywhere as far as is known.
    pub fn is_idle(&self) -> bool {
        self.entries
            .iter()
            .flatten()
            .filter_map(|entry| Some((entry, entry.gate.as_ref()?)))
            .all(|(entry, gate)| gate.is_idle() && gate.seen().is_idle() && entry.watch.is_idle())
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.gate.as_ref())
    }
}

impl Entry {
    /// Tells the host what happened and how things stand.
    fn tell(&mut self, at: Timestamp, worker: Option<WorkerId>) {
        let (Some(gate), Some(worker)) = (&mut self.gate, worker) else {
            return;
        };
        let tally = gate.take_tally();
        if tally != Tally::default() {
            self.metrics.count(&tally);
        }
        let seen = gate.seen();
        let moment = Moment {
            now: at,
            worker,
            seen,
            metrics: &self.metrics,
        };
        self.watch.on_tick(&tally, moment);
        let now = (seen, seen.arrived.div_ceil(RATE_SPAN.as_secs().max(1)));
        // Whoever saw something tells it again, for another worker may have told an older sum.
        if now != self.shown || !seen.is_idle() {
            self.metrics.show(&seen, now.1);
            self.shown = now;
        }
    }
}

fn count_replaced(metrics: &Metrics, pool: &PoolOf<'_>) {
    if pool.replaced() {
        metrics.fault(Fault::RecordReplaced);
    }
}

type PoolOf<'a> = SharedRecord<'a, SharedData, PoolRecord>;

fn pool<'a>(shared: &'a mut SharedData, key: &'a str) -> PoolOf<'a> {
    SharedRecord::new(shared, key, ())
}

/// Makes sure that the workers' sequence exists, before there are workers.
pub fn begin_worker_sequence() {
    let _ = store::update(
        &mut SharedData,
        &sequence_key(),
        || 0_u32.to_le_bytes().to_vec(),
        |_| (None, ()),
    );
}

fn sequence_key() -> String {
    format!("{PREFIX}/workers")
}

/// Draws the next number of the workers' sequence.
fn next_worker() -> Result<WorkerId, Fault> {
    store::update(
        &mut SharedData,
        &sequence_key(),
        || 0_u32.to_le_bytes().to_vec(),
        |old| {
            let last = old.try_into().map_or(0, u32::from_le_bytes);
            let next = NonZeroU32::new(last.wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
            (Some(next.get().to_le_bytes().to_vec()), WorkerId(next))
        },
    )
}

/// Whether this machine is the one to announce a configuration: the first within ten seconds,
/// of all that are given the same one.
pub fn announces(configuration: &[u8], now: Timestamp) -> bool {
    const AGAIN_AFTER_MS: u64 = 10_000;
    let mark = fnv1a(configuration);
    store::update(
        &mut SharedData,
        &format!("{PREFIX}/started"),
        || Vec::from([0; 16]),
        |old| {
            let same = old.first_chunk().copied().map(u64::from_le_bytes) == Some(mark);
            let at = old.last_chunk().copied().map_or(0, u64::from_le_bytes);
            if same && now.as_millis().abs_diff(at) < AGAIN_AFTER_MS {
                return (None, false);
            }
            let new = [mark.to_le_bytes(), now.as_millis().to_le_bytes()].concat();
            (Some(new), true)
        },
    )
    .unwrap_or(true)
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
