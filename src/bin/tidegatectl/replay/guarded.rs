//! A rule that decides, in virtual time: what the plugin does, with one worker.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    num::NonZeroU32,
    time::Duration,
};

use tidegate::{
    config::Rule,
    engine::{
        Answers, Decision, Fault, Hold, Limits, Notice, Place, Report, Sentry, StreamId, Terms,
        Timestamp, Who, WorkerId,
    },
};

use super::{
    clock::{FAST, IDLE, LAP, LAP_NS, LONG, lap_after, within},
    found::{self, Found},
    own::Own,
    whom::{Known, culprits},
};

/// Of requests that end, one in so many is looked at while all is well; after a bad one so many.
const ONE_IN: u32 = 8;
const CURIOUS: u32 = 64;

/// Arrivals of a lap that are decided one by one. More come in bundles, one a tick; and where nothing
/// is decided, in so many that name a caller.
const APART: u32 = 100;
const BUNDLES: u32 = 25;
const NAMED: u32 = 1000;
/// Nobody attacks the hashes of a replay, and the same trace gives the same output.
const SEED: [u64; 2] = [0x7469_6465_6761_7465, 0x7265_706c_6179];

/// A connection or request that begins.
#[derive(Clone, Debug)]
pub struct Stream {
    /// How long it is open once it is admitted.
    pub lasts: Duration,
    /// A request and no connection.
    pub http: bool,
    /// How the upstream takes it.
    pub answers: Answers,
}

struct Open {
    stream: Stream,
    place: Place,
    /// So many more that came with it.
    more: u32,
}

/// One rule.
pub struct Guarded {
    rule: Rule,
    terms: Terms,
    sentry: Sentry,
    own: Own,
    /// The largest bundle that waits.
    bundle: u32,
    /// Somebody is shed for a surge.
    sheds: bool,
    /// Arrivals since the last lap that the gate was not asked about.
    counted: u32,
    /// The trace names callers.
    named: bool,
    /// Whether the gate has anything to decide.
    gated: bool,
    started: bool,
    now: Timestamp,
    next_tick: Timestamp,
    open: HashMap<u32, Open>,
    closes: BinaryHeap<Reverse<(Timestamp, u32)>>,
    last_id: u32,
    ended: u32,
    curious: u32,
    found: Found,
}

impl Guarded {
    /// Of a rule. With `counts` it is not known what is open: only the arrival limit holds. `named`:
    /// callers are told apart.
    pub fn new(rule: &Rule, counts: bool, named: bool) -> Self {
        let limits = Limits {
            inflight: rule.limits.inflight.filter(|_| !counts),
            arrivals_per_s: rule.limits.arrivals_per_s,
            // No trace says when the upstream answered.
            connecting: None,
        };
        let mut terms = Terms {
            limits,
            hold: rule.hold,
            // What enforce would do is done, or nobody would learn of it.
            ..Terms::default()
        };
        for (slots, class) in terms.reserved.iter_mut().zip(&rule.classes) {
            *slots = class.reserved;
        }
        Self {
            rule: rule.clone(),
            terms,
            sentry: sentry(rule, &limits, Timestamp::ZERO),
            own: Own::new(rule.surge),
            bundle: 1,
            sheds: false,
            counted: 0,
            named,
            gated: !(counts && limits.is_none()),
            started: false,
            now: Timestamp::ZERO,
            next_tick: Timestamp::ZERO,
            open: HashMap::new(),
            closes: BinaryHeap::new(),
            last_id: 0,
            ended: 0,
            curious: 0,
            found: Found::new(rule.name.as_str()),
        }
    }

    /// Lets time pass until `to`, and brings the next tick to the end of its lap.
    fn advance(&mut self, to: Timestamp) {
        if !self.started {
            self.started = true;
            self.sentry = sentry(&self.rule, &self.terms.limits, to);
            self.now = to;
            self.next_tick = lap_after(to);
        }
        if to.since(self.now) > LONG {
            self.run(self.now.after(IDLE));
            self.jump(to);
        }
        self.run(to);
        self.now = self.now.max(to);
        self.next_tick = self.next_tick.min(lap_after(self.now));
    }

    /// Goes on at `to`; of what was between nothing is known.
    pub fn jump(&mut self, to: Timestamp) {
        if self.started && to > self.now {
            while let Some(Reverse((at, id))) = self.closes.peek().copied()
                && at <= to
            {
                self.closes.pop();
                self.close(id, to);
            }
            self.now = to;
            self.next_tick = lap_after(to);
        }
    }

    fn run(&mut self, to: Timestamp) {
        loop {
            let close = self.closes.peek().copied();
            match close {
                Some(Reverse((at, id))) if at <= self.next_tick && at <= to => {
                    self.closes.pop();
                    self.close(id, at);
                    if self.sentry.gate().needs_fast_tick() {
                        self.next_tick = self.next_tick.min(at.after(FAST));
                    }
                }
                _ if self.next_tick <= to => self.tick(self.next_tick),
                _ => break,
            }
        }
    }

    /// Lets `many` arrive in the lap that begins at `start`, evenly; `next` says whose the next ones
    /// are, and how many, as many as it is told at most.
    pub fn arrive<'k>(
        &mut self,
        start: Timestamp,
        many: u32,
        mut next: impl FnMut(u32) -> (&'k Known, u32),
    ) {
        self.advance(start);
        let fits = self.fits(start, many);
        let bundle = match (fits, self.named) {
            (true, true) => many.div_ceil(NAMED),
            (true, false) => many,
            (false, _) if many <= APART => 1,
            (false, _) => many.div_ceil(BUNDLES),
        };
        if fits {
            self.counted = self.counted.saturating_add(many);
            self.found.pass(many);
        }
        // How long each is open is not known.
        let brief = Stream {
            lasts: Duration::ZERO,
            http: false,
            answers: Answers::default(),
        };
        let mut index = 0;
        while index < many {
            let at = within(start, index, many);
            let most = bundle.min(many - index);
            index += if fits {
                // The one that makes it a surge has a time of its own.
                let calm = self.sentry.left().saturating_sub(1).max(1);
                let (known, taken) = next(most.min(calm));
                let caller = known.caller.as_deref();
                let news = self.sentry.pass(caller, taken, at, &mut self.own);
                self.heard(news, at);
                taken
            } else {
                self.advance(at);
                let room = self.room(at);
                let (known, taken) = next(if room > 0 { most.min(room) } else { most });
                self.begin_all(at, &brief, known, taken);
                taken
            };
        }
    }

    /// How many more may arrive by the limit.
    fn room(&mut self, now: Timestamp) -> u32 {
        let limit = self.terms.limits.arrivals_per_s;
        limit.map_or(u32::MAX, |limit| {
            let used = self.own.pool.arrivals.at_most(now);
            limit
                .get()
                .saturating_sub(used.try_into().unwrap_or(u32::MAX))
        })
    }

    /// Whether all of so many arrivals of a lap are admitted without asking the gate.
    fn fits(&mut self, start: Timestamp, many: u32) -> bool {
        if self.sheds {
            return false;
        }
        let Some(limit) = self.terms.limits.arrivals_per_s else {
            return self.terms.limits.is_none();
        };
        let arrivals = &mut self.own.pool.arrivals;
        let room = !self.sentry.gate().needs_fast_tick()
            && arrivals.at_most(start) + u64::from(many) <= u64::from(limit.get());
        if room {
            let half = many / 2;
            arrivals.add(start, many - half);
            arrivals.add(start.after(LAP / 2), half);
        }
        room
    }

    /// A connection or request begins.
    pub fn begin(&mut self, at: Timestamp, stream: &Stream, known: &Known) {
        self.begin_all(at, stream, known, 1);
    }

    /// Some begin at once, and share a fate.
    fn begin_all(&mut self, at: Timestamp, stream: &Stream, known: &Known, many: u32) {
        self.advance(at);
        let id = self.next_id();
        let wanted = self.sentry.wants();
        let caller = known.caller.as_deref().filter(|_| wanted.caller > 0);
        let more = many - 1;
        if more > 0 {
            self.found.bundled = true;
            self.found.arrivals += u64::from(more);
            self.counted = self.counted.saturating_add(more);
            let news = self.sentry.pass(caller, more, at, &mut self.own);
            self.heard(news, at);
        }
        let who = Who {
            caller: caller.map(|caller| (caller, wanted.caller)),
            instead: None,
            user: known.user.as_deref().filter(|_| wanted.user),
            class: known.class,
        };
        let terms = self.terms(stream.http, many);
        let (decision, place, news) =
            self.sentry
                .on_arrival(StreamId(id), &terms, who, at, &mut self.own);
        self.heard(news, at);
        self.found.follow(decision, more);
        match decision {
            Decision::Admit => {
                self.own.pool.arrivals.add(at, more);
                self.closes.push(Reverse((at.after(stream.lasts), id)));
            }
            Decision::Hold => self.bundle = self.bundle.max(many),
            _ => {}
        }
        if place != Place::Nowhere {
            let stream = stream.clone();
            let open = Open {
                stream,
                place,
                more,
            };
            self.open.insert(id, open);
        }
        if self.sentry.gate().needs_fast_tick() {
            self.next_tick = self.next_tick.min(at.after(FAST));
        }
    }

    /// What the rule says of an arrival that stands for `many`.
    fn terms(&self, http: bool, many: u32) -> Terms {
        let redirect = self.rule.redirect.as_ref();
        let redirects = redirect.is_some_and(|redirect| {
            if http {
                redirect.header.is_some()
            } else {
                redirect.cluster.is_some()
            }
        });
        let hold = self.terms.hold.map(|hold| Hold {
            max_waiting: NonZeroU32::new(hold.max_waiting.get() / many).unwrap_or(NonZeroU32::MIN),
            ..hold
        });
        Terms {
            redirects,
            hold,
            ..self.terms
        }
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if !self.open.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn close(&mut self, id: u32, at: Timestamp) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        self.sentry.on_close(StreamId(id), open.place);
        if open.stream.http {
            self.sentry.give_back(at, &mut self.own);
        }
        self.ended = self.ended.wrapping_add(1);
        let answers = open.stream.answers;
        if !open.stream.http || self.curious > 0 || self.ended.is_multiple_of(ONE_IN) {
            self.curious = match answers.bad() {
                0 => self.curious.saturating_sub(1),
                _ => CURIOUS,
            };
            self.sentry.on_answers(answers);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        self.now = now;
        if self.gated {
            self.serve(now);
        }
        let lap = now.as_nanos().is_multiple_of(LAP_NS);
        if lap {
            self.lap(now);
        }
        let steady = lap_after(now);
        self.next_tick = if self.sentry.gate().needs_fast_tick() {
            steady.min(now.after(FAST))
        } else if lap && self.is_idle() {
            now.after(IDLE)
        } else {
            steady
        };
    }

    /// Whether nothing is going on. That the others know nothing either is a matter of 5 s.
    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.sentry.is_idle()
    }

    fn serve(&mut self, now: Timestamp) {
        if !self.sentry.gate().needs_fast_tick() {
            self.bundle = 1;
        }
        let mut outcomes = Vec::new();
        let admitted = if self.bundle > 1 {
            // Only as many bundles as fit whole; what they take is booked behind.
            let before = self.own.pool.arrivals.clone();
            let room = self.room(now);
            self.own.pool.arrivals.add(now, room - room / self.bundle);
            self.sentry.serve(now, &mut self.own, &mut outcomes);
            self.own.pool.arrivals = before;
            true
        } else {
            self.sentry.serve(now, &mut self.own, &mut outcomes);
            false
        };
        for outcome in outcomes {
            let id = outcome.id.0;
            let Some(open) = self.open.get_mut(&id) else {
                continue;
            };
            self.found.follow(outcome.decision, open.more);
            if outcome.decision == Decision::Admit {
                open.place = outcome.place;
                let end = now.after(open.stream.lasts);
                self.closes.push(Reverse((end, id)));
                self.own
                    .pool
                    .arrivals
                    .add(now, open.more + u32::from(admitted));
            } else {
                self.open.remove(&id);
            }
        }
    }

    /// Tells what was seen in a lap, and learns how things stand.
    fn lap(&mut self, now: Timestamp) {
        let passed = std::mem::take(&mut self.counted);
        let (tally, report) = self.sentry.tell(now, &mut self.own);
        self.found.count(&tally);
        let arrivals = passed.saturating_add(tally.arrivals);
        let baseline = self.own.tide.alarm().detector.baseline_per_s();
        self.found.series.add(now, arrivals, baseline);
        if let Ok(Some(report)) = report {
            self.note(&report, now);
        }
    }

    fn heard(&mut self, news: Option<Result<Report, Fault>>, now: Timestamp) {
        if let Some(Ok(report)) = news {
            self.note(&report, now);
        }
    }

    fn note(&mut self, report: &Report, now: Timestamp) {
        self.sheds = report.share < 1.0 || !report.cuts.is_empty();
        let standing = found::Standing {
            phase: report.phase,
            began: report.surges > 0,
            rate_per_s: report.rate_per_s,
            baseline_per_s: report.baseline_per_s,
        };
        self.found.note(&standing, now);
        match report.notice {
            Some(Notice::SurgeStarted { signal, .. }) => {
                let everyone = self.sentry.everyone(now, &mut self.own);
                self.found.tell(signal, culprits(&everyone));
            }
            Some(Notice::Drift) => {
                let at = found::seconds(now);
                self.found.drift_warnings.push(tidegate::event::Tenths(at));
            }
            _ => {}
        }
    }

    /// Ends the trace at `end`: who waits then is still served or refused.
    pub fn finish(mut self, end: Timestamp) -> Found {
        if !self.started {
            return self.found;
        }
        // The lap that the end is in is told, too.
        let end = Timestamp::from_nanos(end.as_nanos().saturating_sub(1));
        let last = lap_after(end);
        self.advance(end);
        self.run(last);
        let mut now = self.now.max(last);
        let patience = self.rule.hold.map_or(Duration::ZERO, |hold| hold.max_wait);
        let until = now.after(patience + FAST);
        while self.sentry.gate().needs_fast_tick() && now <= until {
            now = now.after(FAST);
            self.serve(now);
        }
        let (tally, _) = self.sentry.tell(now, &mut self.own);
        self.found.count(&tally);
        if self.found.is_untold() {
            let signal = tidegate::engine::Signal::Arrivals;
            let everyone = self.sentry.everyone(now, &mut self.own);
            self.found.tell(signal, culprits(&everyone));
        }
        self.found
    }
}

/// The only worker of a rule.
fn sentry(rule: &Rule, limits: &Limits, now: Timestamp) -> Sentry {
    let mut sentry = Sentry::new(WorkerId(NonZeroU32::MIN), SEED, now);
    let limit = limits.inflight.map_or(0, NonZeroU32::get);
    sentry.configure(limit, rule.adaptive);
    sentry.set_alone();
    sentry
}
