//! What one virtual machine knows: its configurations, gates and streams.
//!
//! It belongs to the machine and not to a root context: after an update the old root context goes
//! on beside the new one, and both guard the same upstreams.

use alloc::{rc::Rc, string::String, vec::Vec};
use core::{
    cell::RefCell,
    hash::{BuildHasherDefault, Hasher},
};
use std::collections::HashMap;

use super::{
    gates::{self, Gates, Guard, Haste},
    host::{self, Level},
    http,
    matching::{Facts, Kind},
    metrics,
    peers::{Strangers, peer},
    slow::Slow,
    who,
};
use crate::{
    config::{self, Build, RuleIndex},
    engine::{Decision, Fault, Mode, Outcome, Place, Reason, StreamId, Timestamp},
    event::{Event, StartedRule},
};

/// Tick periods in ms. The host makes about 4 ms of the fast one.
const FAST: u32 = 2;
const LEASING: u32 = 50;
const STEADY: u32 = 100;
const IDLE: u32 = 1000;

/// How often to tick where there is something to do.
const fn period(haste: Haste) -> u32 {
    match haste {
        Haste::Waiting => FAST,
        Haste::IdleSlots => LEASING,
        Haste::None => STEADY,
    }
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::new(Vm::default());
}

/// Works on the state of this machine. `None` when the host called in while it is being worked on:
/// no callback does anything then that it would have to wait for.
pub fn with<R>(work: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    VM.with(|vm| vm.try_borrow_mut().ok().map(|mut vm| work(&mut vm)))
}

/// A configuration in force, and the gates of its rules.
#[derive(Debug, Default)]
pub struct Active {
    guards: Vec<Guard>,
    index: RuleIndex,
    /// Requests are answered with what was told.
    status: bool,
}

impl Active {
    /// The line that announces it.
    fn started(&self, now: Timestamp) -> String {
        let rules = self.guards.iter().map(|guard| StartedRule {
            name: guard.rule.name.as_str(),
            mode: guard.rule.mode.label(),
        });
        Event::started(now, rules.collect()).line()
    }
}

/// A stream that a rule guards.
#[derive(Clone, Debug)]
pub struct Guarded {
    active: Rc<Active>,
    rule: usize,
    kind: Kind,
    began: Timestamp,
    pub place: Place,
    /// How the upstream took it is known already.
    judged: bool,
}

impl Guarded {
    /// HTTP or TCP.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The rule, and its gate.
    pub fn guard(&self) -> Option<&Guard> {
        self.active.guards.get(self.rule)
    }
}

/// What is known of a stream.
#[derive(Debug)]
pub struct Stream {
    root: u32,
    /// None before it arrived.
    pub guarded: Option<Guarded>,
    /// Its refusal is kept until then.
    pub kept: Option<Timestamp>,
    /// It is being refused in its own protocol.
    #[cfg(feature = "inspect")]
    pub refusal: Option<super::tcp::Refusal>,
    /// The upstream has said something.
    #[cfg(feature = "inspect")]
    pub answered: bool,
    /// The client has asked whether the database speaks TLS.
    #[cfg(feature = "inspect")]
    pub asked_for_tls: bool,
    /// The client's first message has been read, or is not to be.
    #[cfg(feature = "inspect")]
    pub introduced: bool,
}

#[derive(Debug)]
struct Root {
    id: u32,
    active: Rc<Active>,
    /// Its tick period in ms; 0: it does not tick.
    period: u32,
}

/// What the shell does with an arrival.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It waits.
    Hold,
    /// It goes to another upstream.
    Redirect(Guarded),
    /// It is refused.
    Refuse(Reason, Guarded),
    /// It is refused later.
    Keep,
    /// It is answered with what was told.
    Tell,
}

/// What is to be done with a stream, once the state is not worked on any more.
#[derive(Debug)]
pub enum Act {
    /// One that was held goes on.
    Resume(StreamId, Kind),
    /// One that was held, or kept, is refused.
    Refuse(StreamId, Reason, Guarded),
    /// One that was held goes to another upstream.
    Redirect(StreamId, Guarded),
    /// Its refusal has been read, or nobody reads it.
    Close(StreamId),
}

impl Stream {
    fn new(root: u32) -> Self {
        Self {
            root,
            guarded: None,
            kept: None,
            #[cfg(feature = "inspect")]
            refusal: None,
            #[cfg(feature = "inspect")]
            answered: false,
            #[cfg(feature = "inspect")]
            asked_for_tls: false,
            #[cfg(feature = "inspect")]
            introduced: false,
        }
    }
}

/// The streams' ids count up, and the host chooses them.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // Fibonacci hashing: spreads over the upper bits too, which the table looks at.
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The state of one virtual machine.
#[derive(Debug, Default)]
pub struct Vm {
    roots: Vec<Root>,
    /// The stream that was created last and has not arrived, and its root context: Envoy lets a stream
    /// arrive at once, and of one that no rule guards nothing is kept.
    created: Option<(u32, u32)>,
    streams: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    gates: Gates,
    strangers: Strangers,
    now: Timestamp,
    random: u64,
    slow: Slow,
    #[cfg(feature = "inspect")]
    pub refusals: super::tcp::Refusals,
    outcomes: Vec<Outcome>,
}

impl Vm {
    /// A context was created: a root context when it has no parent. One that is known by that id is
    /// gone then.
    pub fn on_create(&mut self, id: u32, parent: u32) {
        if parent == 0 {
            self.on_delete(id);
            self.roots.retain(|root| root.id != id);
            self.roots.push(Root {
                id,
                active: Rc::default(),
                period: 0,
            });
            return;
        }
        if let Some(known) = self.streams.remove(&id) {
            self.end(id, &known);
        }
        if let Some((before, root)) = self.created.replace((id, parent))
            && before != id
        {
            self.streams.insert(before, Stream::new(root));
        }
    }

    /// A context is gone.
    pub fn on_delete(&mut self, id: u32) {
        self.created.take_if(|(created, _)| *created == id);
        match self.streams.remove(&id) {
            Some(stream) => self.end(id, &stream),
            None => self.roots.retain(|root| root.id != id),
        }
    }

    /// A stream has ended.
    fn end(&mut self, id: u32, stream: &Stream) {
        #[cfg(feature = "inspect")]
        if stream.refusal.is_some() {
            self.refusals.forget(StreamId(id));
        }
        if let Some(until) = stream.kept {
            self.slow.forget(StreamId(id), until);
        }
        let stranger = self.strangers.forget(id);
        if let Some(guarded) = &stream.guarded
            && let Some(guard) = guarded.guard()
        {
            let was_open = matches!(guarded.place, Place::Open { .. } | Place::Ghost);
            // Whom we refused had no time to say who it is.
            if stranger && was_open {
                self.gates.on_known_late(guard, &peer().unwrap_or_default());
            }
            if !guarded.judged && was_open {
                let lasted = self.now.since(guarded.began);
                self.gates.on_ending(guard, guarded.kind, lasted);
            }
            self.gates.on_close(guard, StreamId(id), guarded.place);
            self.hurry(stream.root, guarded);
        }
    }

    /// Takes a configuration, or says why not; nothing changes then.
    pub fn on_configure(&mut self, id: u32, size: usize) -> bool {
        let bytes = host::buffer(host::Buffer::Configuration, size);
        if bytes.len() != size {
            host::log(
                Level::Error,
                "tidegate: the configuration could not be read: it is larger than 4 MiB, or Envoy did not give it; make it smaller",
            );
            return false;
        }
        let policy = match config::parse(&bytes, Build::THIS) {
            Ok(policy) => policy,
            Err(error) => {
                for finding in error.findings() {
                    host::log(Level::Error, &alloc::format!("tidegate: {finding}"));
                }
                return false;
            }
        };
        gates::begin_worker_sequence();
        metrics::show_build();
        self.gates.forget();
        let now = host::now();
        let rules = policy.rules().iter();
        let active = Rc::new(Active {
            index: RuleIndex::new(rules.clone()),
            guards: rules.cloned().map(|rule| self.gates.guard(rule)).collect(),
            status: policy.tells_status(),
        });
        if !active.status && gates::announces(&bytes, now) {
            host::log(Level::Info, &active.started(now));
        }
        match self.roots.iter_mut().find(|root| root.id == id) {
            Some(root) => {
                root.active = active;
                true
            }
            None => false,
        }
    }

    /// Decides about the stream that begins. The effective context is the stream's.
    pub fn on_arrival(&mut self, id: u32, kind: Kind) -> Verdict {
        let Some(parent) = self.arrives(id) else {
            return Verdict::Pass;
        };
        let Some(root) = self.roots.iter().find(|root| root.id == parent) else {
            return Verdict::Pass;
        };
        let active = &root.active;
        let facts = Facts::new(kind);
        let found = active.index.first(&facts);
        let Some((rule, guard)) = found.and_then(|rule| Some((rule, active.guards.get(rule)?)))
        else {
            return match kind {
                Kind::Http if active.status => Verdict::Tell,
                _ => Verdict::Pass,
            };
        };
        if guard.rule.mode == Mode::Off {
            return Verdict::Pass;
        }
        // The last tick's time is good enough to count by, and to use what is leased.
        let ticks = (1..=STEADY).contains(&root.period);
        if !ticks || self.gates.asks(guard, kind) {
            self.now = host::now();
        }
        let (decision, place) = self.gates.on_arrival(guard, StreamId(id), &facts, self.now);
        if who::is_shown_later(&guard.rule.key, kind) {
            self.strangers.expect(id, self.now);
        }
        let guarded = Guarded {
            active: Rc::clone(active),
            rule,
            kind,
            began: self.now,
            place,
            judged: false,
        };
        let mut stream = Stream::new(parent);
        let verdict = if guard.rule.mode == Mode::Enforce {
            self.verdict(id, &mut stream, decision, &guarded)
        } else {
            Verdict::Pass
        };
        self.hurry(parent, &guarded);
        stream.guarded = Some(guarded);
        self.streams.insert(id, stream);
        verdict
    }

    /// The root context of a stream that arrives. `None` where it is not known; and one that has
    /// arrived already keeps its place, and takes no other.
    fn arrives(&mut self, id: u32) -> Option<u32> {
        let created = self.created.take_if(|(created, _)| *created == id);
        created.map(|(_, root)| root).or_else(|| {
            let stream = self.streams.get(&id)?;
            stream.guarded.is_none().then_some(stream.root)
        })
    }

    /// What the shell does with one by an enforced rule. The effective context is the stream's.
    fn verdict(
        &mut self,
        id: u32,
        stream: &mut Stream,
        decision: Decision,
        guarded: &Guarded,
    ) -> Verdict {
        match decision {
            Decision::Admit => Verdict::Pass,
            Decision::Hold => Verdict::Hold,
            Decision::Redirect(_) => Verdict::Redirect(guarded.clone()),
            Decision::Reject(reason) => {
                stream.kept = self.keeps(guarded, StreamId(id), reason);
                match stream.kept {
                    Some(_) => Verdict::Keep,
                    None => Verdict::Refuse(reason, guarded.clone()),
                }
            }
        }
    }

    /// Keeps the refusal of a hot caller for a while, if there is room; so that it can't hammer. Until
    /// when. The effective context is the stream's.
    fn keeps(&mut self, guarded: &Guarded, id: StreamId, reason: Reason) -> Option<Timestamp> {
        let guard = guarded.guard()?;
        let reject = &guard.rule.reject;
        let span = reject.slow?;
        let is_http = guarded.kind == Kind::Http;
        if reason != Reason::HotCaller || is_http && !http::has_its_own_connection() {
            return None;
        }
        let random = self.random();
        let kept = self.slow.keep(id, span, reject.max_slow, random, self.now);
        if kept.is_none() {
            self.gates.fault(guard, Fault::RefusalsFull);
        }
        kept
    }

    /// What is known of a stream.
    pub fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }

    /// The upstream answered a stream.
    pub fn on_answered(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(guarded) = &mut stream.guarded
            && let Place::Open {
                connecting: true, ..
            } = guarded.place
            && let Some(guard) = guarded.active.guards.get(guarded.rule)
        {
            self.gates.on_answered(guard, &mut guarded.place);
        }
    }

    /// A stream's caller is known from what it sent or showed first; whether it is turned out, since
    /// that caller is hot. The effective context is the stream's.
    pub fn on_introduced(&mut self, id: u32, caller: &[u8]) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let Some(guarded) = &mut stream.guarded else {
            return false;
        };
        let Some(guard) = guarded.active.guards.get(guarded.rule) else {
            return false;
        };
        let class = guarded.place.class().unwrap_or(u8::MAX);
        let out = self.gates.on_introduced(guard, caller, guarded.kind, class)
            && guard.rule.mode == Mode::Enforce;
        // How the upstream took it says nothing then.
        guarded.judged |= out;
        out
    }

    /// The upstream refused a stream in its own protocol.
    #[cfg(feature = "inspect")]
    pub fn on_refused(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(guarded) = &mut stream.guarded
            && let Some(guard) = guarded.active.guards.get(guarded.rule)
        {
            guarded.judged = true;
            let refused = crate::engine::Answers {
                refused: 1,
                ..Default::default()
            };
            self.gates.on_answers(guard, refused);
        }
    }

    /// Counts a fault of the shell's against the stream's rule.
    pub fn fault(&mut self, id: u32, fault: Fault) {
        if let Some(stream) = self.streams.get(&id)
            && let Some(guard) = stream.guarded.as_ref().and_then(Guarded::guard)
        {
            self.gates.fault(guard, fault);
        }
    }

    /// Serves those that wait; what is to be done is returned. The effective context is the root's.
    pub fn on_tick(&mut self, root: u32) -> Vec<Act> {
        self.now = host::now();
        #[cfg(not(feature = "inspect"))]
        self.ask_who_was_answered(root);
        let mut acts = Vec::new();
        self.ask_who_came(root, &mut acts);
        let mut outcomes = core::mem::take(&mut self.outcomes);
        self.gates.on_tick(self.now, &mut outcomes);
        for outcome in outcomes.drain(..) {
            let Some(guarded) = self
                .streams
                .get_mut(&outcome.id.0)
                .and_then(|stream| stream.guarded.as_mut())
            else {
                continue;
            };
            guarded.place = outcome.place;
            if outcome.shadow {
                continue;
            }
            // The upstream has had no time to answer whoever waited.
            guarded.began = self.now;
            let guarded = guarded.clone();
            acts.push(match outcome.decision {
                Decision::Reject(reason) => {
                    let _ = host::set_effective_context(host::context(outcome.id));
                    let kept = self.keeps(&guarded, outcome.id, reason);
                    let _ = host::set_effective_context(root);
                    if kept.is_some() {
                        if let Some(stream) = self.stream(outcome.id.0) {
                            stream.kept = kept;
                        }
                        continue;
                    }
                    Act::Refuse(outcome.id, reason, guarded)
                }
                Decision::Redirect(_) => Act::Redirect(outcome.id, guarded),
                Decision::Admit | Decision::Hold => {
                    if let Some(guard) = guarded.guard() {
                        let millis = u64::try_from(outcome.waited.as_millis()).unwrap_or(u64::MAX);
                        self.gates.waited(guard, millis);
                    }
                    Act::Resume(outcome.id, guarded.kind)
                }
            });
        }
        self.slow.due(self.now, |id| {
            if let Some(stream) = self.streams.get_mut(&id.0)
                && stream.kept.take().is_some()
                && let Some(guarded) = &stream.guarded
            {
                acts.push(Act::Refuse(id, Reason::HotCaller, guarded.clone()));
            }
        });
        self.outcomes = outcomes;
        #[cfg(feature = "inspect")]
        self.refusals.due(self.now, |id| acts.push(Act::Close(id)));
        self.calm_down(root);
        acts
    }

    /// Without callbacks for data, a connected upstream is seen by asking for it.
    ///
    /// Only rules with `limits.connecting` have streams to ask about, and no more than that limit.
    #[cfg(not(feature = "inspect"))]
    fn ask_who_was_answered(&mut self, root: u32) {
        if !self.gates.connects() {
            return;
        }
        let connecting = self.streams.iter().filter(|(_, stream)| {
            stream.guarded.as_ref().is_some_and(|guarded| {
                guarded.kind == Kind::Tcp
                    && matches!(
                        guarded.place,
                        Place::Open {
                            connecting: true,
                            ..
                        }
                    )
            })
        });
        let asked: Vec<u32> = connecting.map(|(&id, _)| id).collect();
        if asked.is_empty() {
            return;
        }
        for id in asked {
            if host::set_effective_context(id).is_ok()
                && host::property("upstream\0cx_pool_ready_duration").is_some()
            {
                self.on_answered(id);
            }
        }
        let _ = host::set_effective_context(root);
    }

    /// A connection begins before its client has shown its certificate, so that is asked for later.
    fn ask_who_came(&mut self, root: u32, acts: &mut Vec<Act>) {
        let Some(callers) = self.strangers.ask(self.now) else {
            return;
        };
        for (id, caller) in &callers {
            if host::set_effective_context(*id).is_ok() && self.on_introduced(*id, caller) {
                acts.push(Act::Close(StreamId(*id)));
            }
        }
        let _ = host::set_effective_context(root);
    }

    /// Ticks faster if somebody waits for it, or at all.
    fn hurry(&mut self, root: u32, guarded: &Guarded) {
        let guard = guarded.guard();
        let haste = guard.map_or(Haste::None, |guard| self.gates.haste(guard));
        self.hasten(root, period(haste));
    }

    /// Ticks as fast as that. Never slower, for that restarts a timer that a busy worker would then
    /// never see fire.
    fn hasten(&mut self, root: u32, wanted: u32) {
        self.set_period(root, wanted, |now, wanted| now == 0 || wanted < now);
    }

    /// Ticks as fast as is needed now.
    fn calm_down(&mut self, root: u32) {
        let wanted = match self.gates.most_haste() {
            Haste::None if self.streams.is_empty() && self.gates.is_idle() => IDLE,
            haste => period(haste),
        };
        self.set_period(root, wanted, |now, wanted| now != wanted);
    }

    fn set_period(&mut self, root: u32, wanted: u32, change: impl Fn(u32, u32) -> bool) {
        if let Some(root) = self.roots.iter_mut().find(|known| known.id == root)
            && change(root.period, wanted)
            && host::set_tick_period(wanted).is_ok()
        {
            root.period = wanted;
        }
    }

    /// A number for jitter (xorshift64*); nothing secret.
    pub fn random(&mut self) -> u32 {
        if self.random == 0 {
            self.random = host::now().as_nanos() | 1;
        }
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}
