//! A worker with a rule, in virtual time, while all is calm.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};
use tidegate::{
    engine::{
        Decision, DetectorConfig, Hold, Limits, Order, Phase, Place, Sentry, StreamId, Terms,
        Timestamp, Who, WorkerId,
    },
    store::{MemoryStore, RuleKeys, RuleRecords},
};

/// The seed of all workers.
const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// How long a lap is.
pub const LAP: Duration = Duration::from_millis(100);
/// So many are open at once in each worker.
const OPEN: usize = 40;

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its slot is given back at once when it ends.
    Request,
    /// Its slot is free with the next call.
    Connection,
}

/// What a rule limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    Nothing,
    /// What is open, to so many that they are never scarce.
    Inflight,
}

/// A rule in one worker.
pub struct Worker {
    sentry: Sentry,
    store: MemoryStore,
    keys: RuleKeys,
    setting: DetectorConfig,
    terms: Terms,
    kind: Kind,
    limit: u32,
    open: VecDeque<(StreamId, Place)>,
    next: u32,
}

impl Worker {
    /// Number `number` of those that share a rule, whose arrivals are so many a second over all.
    pub fn new(
        number: u32,
        store: &MemoryStore,
        rule: &str,
        kind: Kind,
        limited: Limited,
        rate_per_s: f64,
    ) -> Self {
        let limit = match limited {
            Limited::Nothing => 0,
            Limited::Inflight => 1_000_000,
        };
        let terms = Terms {
            limits: Limits {
                inflight: NonZeroU32::new(limit),
                ..Limits::default()
            },
            hold: Some(Hold {
                max_wait: Duration::from_millis(100),
                max_waiting: NonZeroU32::MIN.saturating_add(1023),
                order: Order::NewestFirst,
            }),
            ..Terms::default()
        };
        let me = WorkerId(NonZeroU32::MIN.saturating_add(number));
        let mut sentry = Sentry::new(me, SEED, BEGIN);
        sentry.configure(limit, false);
        Self {
            sentry,
            store: store.clone(),
            keys: RuleKeys::new(rule),
            setting: DetectorConfig {
                baseline_per_s: Some(rate_per_s),
                ..DetectorConfig::default()
            },
            terms,
            kind,
            limit,
            open: VecDeque::with_capacity(OPEN + 1),
            next: 0,
        }
    }

    /// One arrives, and the one ends that has been open for longest.
    pub fn arrive(&mut self, caller: &[u8], now: Timestamp) {
        let wanted = self.sentry.wants();
        let who = Who {
            caller: (wanted.caller > 0).then_some((caller, wanted.caller)),
            ..Who::default()
        };
        self.next = self.next.wrapping_add(1);
        let id = StreamId(self.next);
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let (decision, place, _) = self
            .sentry
            .on_arrival(id, &self.terms, who, now, &mut records);
        assert_eq!(decision, Decision::Admit, "there is room for all");
        self.open.push_back((id, place));
        if self.open.len() > OPEN
            && let Some((id, place)) = self.open.pop_front()
        {
            self.sentry.on_close(id, place);
            if self.kind == Kind::Request {
                self.sentry.give_back(now, &mut records);
            }
        }
    }

    /// What it does every 100 ms.
    pub fn tick(&mut self, now: Timestamp) {
        let mut records = RuleRecords::new(&mut self.store, &self.keys, self.setting);
        let mut outcomes = Vec::new();
        self.sentry.serve(now, &mut records, &mut outcomes);
        assert!(outcomes.is_empty(), "nobody waits");
        let (_, report) = self.sentry.tell(now, &mut records);
        report.expect("the store is there");
    }

    /// Panics when it is not calm, or its rule is not limited as it should be: then the numbers
    /// are not those that were asked for.
    pub fn assert_calm(&self) {
        assert_eq!(self.sentry.phase(), Phase::Calm);
        assert_eq!(
            self.terms.limits.inflight.map_or(0, NonZeroU32::get),
            self.limit
        );
        assert!(!self.sentry.gate().is_tight());
    }
}

/// When virtual time begins.
const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Virtual time.
pub struct Clock {
    now: Timestamp,
}

impl Clock {
    pub const fn new() -> Self {
        Self { now: BEGIN }
    }

    pub const fn now(&self) -> Timestamp {
        self.now
    }

    pub fn pass(&mut self, span: Duration) -> Timestamp {
        self.now = self.now.after(span);
        self.now
    }
}

/// Callers that come one after the other, round and round.
pub struct Callers {
    /// Written beforehand, so that no time is measured for it.
    keys: Vec<[u8; 10]>,
    next: usize,
}

impl Callers {
    /// So many, with keys as long as an address.
    pub fn new(count: u32) -> Self {
        let key = |number| {
            let mut key = *b"c-00000000";
            let digits = format!("{number:08x}");
            key[2..].copy_from_slice(digits.as_bytes());
            key
        };
        Self {
            keys: (0..count).map(key).collect(),
            next: 0,
        }
    }

    /// The key of the next.
    pub fn next(&mut self) -> [u8; 10] {
        let key = self.keys[self.next];
        self.next += 1;
        if self.next == self.keys.len() {
            self.next = 0;
        }
        key
    }
}
