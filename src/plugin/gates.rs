//! The gates of all rules of one virtual machine, and what they tell the operator.

use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::{num::NonZeroU32, time::Duration};

use super::{
    ending::ending,
    faults::Faults,
    host::{self, SharedData},
    matching::{Facts, Kind},
    metrics::Metrics,
    watch::{self, Curiosity},
    who::{self, Known},
};
#[cfg(feature = "inspect")]
use crate::engine::Answers;
use crate::{
    config::{Key, Rule},
    engine::{
        Change, Decision, Fault, Mode, Outcome, Patience, Place, RATE_SPAN, Report, Sentry, Shared,
        StreamId, Tally, Terms, TideRecord, Timestamp, Totals, Who, WorkerId,
    },
    event,
    store::{self, PREFIX, RuleKeys, RuleRecords},
};

/// How often what happened is told to the host.
const TELL_MS: u64 = 100;

/// The rule that a configuration means, and the gate that all configurations of this machine
/// which name it share.
#[derive(Debug)]
pub struct Guard {
    pub rule: Rule,
    /// For a request and for a connection.
    terms: [Terms; 2],
    gate: usize,
    /// Keeps the gate: it is dropped when nobody has its token.
    _token: Rc<()>,
}

impl Guard {
    /// What is said about an arrival of that kind.
    fn terms(&self, kind: Kind) -> &Terms {
        let [http, tcp] = &self.terms;
        match kind {
            Kind::Http => http,
            Kind::Tcp => tcp,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// As the newest configuration has it.
    rule: Rule,
    keys: RuleKeys,
    token: Rc<()>,
    metrics: Metrics,
    faults: Faults,
    /// None until this machine is a worker.
    sentry: Option<Sentry>,
    curiosity: Curiosity,
    /// What the gauges show.
    shown: (Totals, u64),
}

/// The gates of one virtual machine, by the names of their rules.
#[derive(Debug, Default)]
pub struct Gates {
    /// A free place is `None`, so that the others keep theirs.
    entries: Vec<Option<Entry>>,
    worker: Option<(WorkerId, [u64; 2])>,
    told: Timestamp,
}

impl Gates {
    /// Finds the gate of a rule, or makes it.
    pub fn guard(&mut self, rule: Rule) -> Guard {
        let found = self.entries.iter().position(|entry| {
            entry
                .as_ref()
                .is_some_and(|entry| entry.rule.name == rule.name)
        });
        let index = found.unwrap_or_else(|| self.insert(rule.clone()));
        let token = self.entry(index).map_or_else(Rc::default, |entry| {
            entry.configure(&rule);
            Rc::clone(&entry.token)
        });
        let mut terms = Terms {
            limits: rule.limits,
            hold: rule.hold,
            shadow: rule.mode != Mode::Enforce,
            ..Terms::default()
        };
        for (slots, class) in terms.reserved.iter_mut().zip(&rule.classes) {
            *slots = class.reserved;
        }
        let redirect = rule.redirect.as_ref();
        let redirects = [
            redirect.is_some_and(|redirect| redirect.header.is_some()),
            redirect.is_some_and(|redirect| redirect.cluster.is_some()),
        ];
        Guard {
            // Not by an update in a closure, at which Rust 1.95 fails when it compiles for wasm.
            terms: redirects.map(|redirects| {
                let mut terms = terms;
                terms.redirects = redirects;
                terms
            }),
            rule,
            gate: index,
            _token: token,
        }
    }

    fn insert(&mut self, rule: Rule) -> usize {
        let entry = Entry {
            keys: RuleKeys::new(rule.name.as_str()),
            token: Rc::default(),
            metrics: Metrics::define(rule.name.as_str()),
            faults: Faults::default(),
            sentry: None,
            curiosity: Curiosity::default(),
            shown: (Totals::default(), 0),
            rule,
        };
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

    /// This machine's number among the workers, drawn at its first stream, and their seed.
    fn worker(&mut self) -> Result<(WorkerId, [u64; 2]), Fault> {
        if let Some(worker) = self.worker {
            return Ok(worker);
        }
        let worker = (next_worker()?, who::seed());
        self.worker = Some(worker);
        Ok(worker)
    }

    /// Whether the clock must be read for an arrival.
    pub fn asks(&self, guard: &Guard, kind: Kind) -> bool {
        let entry = self.entries.get(guard.gate).and_then(Option::as_ref);
        entry
            .and_then(|entry| entry.sentry.as_ref())
            .is_none_or(|sentry| sentry.gate().asks(guard.terms(kind)))
    }

    /// Decides about the arrival of the effective context.
    ///
    /// When there is no worker's number to be had, the arrival goes on uncounted.
    pub fn on_arrival<'a>(
        &mut self,
        guard: &'a Guard,
        id: StreamId,
        facts: &Facts<'a>,
        now: Timestamp,
    ) -> (Decision, Place) {
        let worker = self.worker();
        let Some(entry) = self.entry(guard.gate) else {
            return (Decision::Admit, Place::Nowhere);
        };
        let (worker, seed) = match worker {
            Ok(worker) => worker,
            Err(fault) => {
                entry.fault(fault);
                return (Decision::Admit, Place::Nowhere);
            }
        };
        let sentry = entry.sentry.get_or_insert_with(|| {
            let mut sentry = Sentry::new(worker, seed, now);
            sentry.configure(limit(&entry.rule), entry.rule.adaptive);
            sentry
        });
        let kind = facts.kind();
        let mut wanted = sentry.wants();
        let key = &guard.rule.key;
        if *key == Key::None {
            wanted.caller = 0;
        }
        let known = Known::ask(&guard.rule, wanted, facts);
        let caller = known.caller.as_deref();
        let who = Who {
            caller: caller.map(|caller| (caller, wanted.caller)),
            instead: known.instead.as_deref().map(|key| (key, wanted.caller)),
            user: known.user.as_deref(),
            class: known.class,
        };
        let mut shared = SharedData;
        let mut records = RuleRecords::new(&mut shared, &entry.keys, entry.rule.surge);
        let terms = guard.terms(kind);
        let (decision, place, news) = sentry.on_arrival(id, terms, who, now, &mut records);
        let replaced = records.replaced();
        if replaced || news.is_some() {
            entry.show(news.map(|news| news.map(Some)), replaced, now);
        }
        (decision, place)
    }

    /// The upstream answered.
    pub fn on_answered(&mut self, guard: &Guard, place: &mut Place) {
        if let Some(sentry) = self.sentry(guard) {
            sentry.on_answered(place);
        }
    }

    /// A stream ended.
    ///
    /// Envoy closes the upstream's side, and takes it off its own count, only after this. So the
    /// other workers are told with the next call: who took the place before would be one more at the
    /// upstream, or refused by Envoy's circuit breaker where that is at the limit.
    pub fn on_close(&mut self, guard: &Guard, id: StreamId, place: Place) {
        if let Some(sentry) = self.sentry(guard) {
            sentry.on_close(id, place);
        }
    }

    /// A stream that was open has ended; how, is asked if it is worth it.
    pub fn on_ending(&mut self, guard: &Guard, kind: Kind, lasted: Duration) {
        if let Some(entry) = self.entry(guard.gate)
            && entry.curiosity.looks(kind)
        {
            let patience = entry
                .sentry
                .as_ref()
                .map_or_else(Patience::default, Sentry::patience);
            entry.on_answers(ending(kind, lasted, patience));
        }
    }

    /// The upstream ended something in a way that was seen.
    #[cfg(feature = "inspect")]
    pub fn on_answers(&mut self, guard: &Guard, answers: Answers) {
        if let Some(entry) = self.entry(guard.gate) {
            entry.on_answers(answers);
        }
    }

    /// A caller is known from what it sent or showed first; whether it is turned out. The effective
    /// context is its stream's.
    pub fn on_introduced(&mut self, guard: &Guard, caller: &[u8], kind: Kind, class: u8) -> bool {
        let Some(sentry) = self.sentry(guard) else {
            return false;
        };
        let user = || who::user(&guard.rule, &Facts::new(kind));
        let class = who::class_at(&guard.rule, class);
        sentry.on_introduced(caller, user, class, guard.terms(kind))
    }

    /// A caller is known whose stream has ended.
    pub fn on_known_late(&mut self, guard: &Guard, caller: &[u8]) {
        if let Some(sentry) = self.sentry(guard) {
            sentry.on_known_late(caller);
        }
    }

    fn sentry(&mut self, guard: &Guard) -> Option<&mut Sentry> {
        self.entry(guard.gate)?.sentry.as_mut()
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
            entry.fault(fault);
        }
    }

    /// Lets every gate serve, refuse and tell; what became of those that waited is in `outcomes`.
    pub fn on_tick(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        let tell = now.as_millis().abs_diff(self.told.as_millis()) >= TELL_MS;
        if tell {
            self.told = now;
        }
        for place in &mut self.entries {
            let Some(entry) = place else { continue };
            if let Some(sentry) = &mut entry.sentry {
                let mut shared = SharedData;
                let mut records = RuleRecords::new(&mut shared, &entry.keys, entry.rule.surge);
                sentry.serve(now, &mut records, outcomes);
                if records.replaced() {
                    entry.fault(Fault::RecordReplaced);
                }
            }
            if tell {
                entry.tell(now);
            }
            let idle = entry
                .sentry
                .as_ref()
                .is_none_or(|sentry| sentry.gate().is_idle());
            if idle && Rc::strong_count(&entry.token) == 1 {
                *place = None;
            }
        }
    }

    /// Forgets the gates that no configuration names any more and that nothing has come to: where
    /// there are no streams nothing ticks.
    pub fn forget(&mut self) {
        for place in &mut self.entries {
            place.take_if(|entry| entry.sentry.is_none() && Rc::strong_count(&entry.token) == 1);
        }
    }

    /// How soon the gate of a rule needs a tick.
    pub fn haste(&self, guard: &Guard) -> Haste {
        self.entries
            .get(guard.gate)
            .and_then(|entry| entry.as_ref()?.sentry.as_ref())
            .map_or(Haste::None, haste)
    }

    /// Whether anything is connecting that a rule limits.
    #[cfg(not(feature = "inspect"))]
    pub fn connects(&self) -> bool {
        self.sentries().any(|sentry| sentry.gate().connects())
    }

    /// How soon a tick is needed.
    pub fn most_haste(&self) -> Haste {
        self.sentries().map(haste).max().unwrap_or(Haste::None)
    }

    /// Whether nothing is open here, nor anywhere as far as is known.
    pub fn is_idle(&self) -> bool {
        self.sentries().all(Sentry::is_idle)
    }

    fn sentries(&self) -> impl Iterator<Item = &Sentry> {
        self.entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.sentry.as_ref())
    }
}

impl Entry {
    /// Takes the newest configuration, and makes sure that the records exist.
    ///
    /// The first to need them is the configuration on the main thread, alone; so that no two
    /// workers begin one at the same time.
    fn configure(&mut self, rule: &Rule) {
        self.rule = rule.clone();
        let limit = limit(rule);
        self.metrics.show_limit(limit);
        if let Some(sentry) = &mut self.sentry {
            sentry.configure(limit, rule.adaptive);
        }
        let mut shared = SharedData;
        let _ = RuleRecords::new(&mut shared, &self.keys, rule.surge).begin();
    }

    fn on_answers(&mut self, answers: crate::engine::Answers) {
        self.curiosity.saw(answers);
        self.metrics.upstream_refused(answers.bad());
        if let Some(sentry) = &mut self.sentry {
            sentry.on_answers(answers);
        }
    }

    /// Tells the others and the host what happened and how things stand.
    fn tell(&mut self, now: Timestamp) {
        self.curiosity.lap();
        self.tell_what_came(now);
        let (keys, surge) = (&self.keys, self.rule.surge);
        self.faults.tell(self.rule.name.as_str(), now, || {
            let mut shared = SharedData;
            let mut records = RuleRecords::new(&mut shared, keys, surge);
            let free = Shared::<TideRecord>::update(&mut records, |tide| match tide.may_say(now) {
                true => Change::Write(true),
                false => Change::Keep(false),
            });
            // What the workers share may be what is at fault.
            free.unwrap_or(true)
        });
    }

    /// As a worker: without a number there is nothing that the others could know.
    fn tell_what_came(&mut self, now: Timestamp) {
        let Some(sentry) = &mut self.sentry else {
            return;
        };
        let mut shared = SharedData;
        let mut records = RuleRecords::new(&mut shared, &self.keys, self.rule.surge);
        let (tally, report) = sentry.tell(now, &mut records);
        let replaced = records.replaced();
        let seen = sentry.gate().seen();
        if tally != Tally::default() {
            self.metrics.count(&tally);
            for (fault, times) in Fault::ALL.into_iter().zip(tally.faults) {
                self.faults.add(fault, times);
            }
        }
        let rate = seen.arrived.div_ceil(RATE_SPAN.as_secs().max(1));
        // Whoever saw something tells it again, for another worker may have told an older sum.
        if (seen, rate) != self.shown || !seen.is_idle() {
            self.metrics.show(&seen, rate);
            self.shown = (seen, rate);
        }
        self.show(Some(report), replaced, now);
    }

    /// Counts what went wrong.
    fn fault(&mut self, fault: Fault) {
        self.metrics.fault(fault);
        self.faults.add(fault, 1);
    }

    /// Shows what all workers found out, and says what is to be told.
    fn show(
        &mut self,
        report: Option<Result<Option<Report>, Fault>>,
        replaced: bool,
        now: Timestamp,
    ) {
        if replaced {
            self.fault(Fault::RecordReplaced);
        }
        match report {
            None | Some(Ok(None)) => {}
            Some(Err(fault)) => self.fault(fault),
            Some(Ok(Some(report))) => {
                let Some(sentry) = &self.sentry else { return };
                self.metrics.show_report(&report, limit(&self.rule));
                if let Some(notice) = report.notice {
                    let seen = sentry.gate().seen();
                    watch::say(&self.rule, &report, notice, now, seen, || {
                        let mut shared = SharedData;
                        let mut records =
                            RuleRecords::new(&mut shared, &self.keys, self.rule.surge);
                        sentry.everyone(now, &mut records)
                    });
                }
            }
        }
    }
}

/// How soon a tick is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// Some time.
    None,
    /// Slots are idle that another worker may lack.
    IdleSlots,
    /// Somebody waits for it.
    Waiting,
}

fn haste(sentry: &Sentry) -> Haste {
    if sentry.gate().needs_fast_tick() {
        Haste::Waiting
    } else if sentry.gate().has_idle_slots() {
        Haste::IdleSlots
    } else {
        Haste::None
    }
}

/// The configured inflight limit; 0: none.
fn limit(rule: &Rule) -> u32 {
    rule.limits.inflight.map_or(0, NonZeroU32::get)
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
            // Where somebody else has written, no number may come again that a worker has.
            let anywhere = |_| host::now().as_nanos() as u32;
            let last = old.try_into().map_or_else(anywhere, u32::from_le_bytes);
            let next = NonZeroU32::new(last.wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
            (Some(next.get().to_le_bytes().to_vec()), WorkerId(next))
        },
    )
}

/// Whether this machine is the one to announce a configuration: the first within ten seconds,
/// of all that are given the same one.
pub fn announces(configuration: &[u8], now: Timestamp) -> bool {
    let mark = fnv1a(configuration);
    store::update(
        &mut SharedData,
        &format!("{PREFIX}/started"),
        || Vec::from([0; 16]),
        |old| {
            let new = event::announced(old, mark, now);
            let first = new.is_some();
            (new, first)
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
