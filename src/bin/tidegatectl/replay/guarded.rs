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
        Answers, Arrival, Change, Class, Decision, Fault, Gate, Limits, Lookout, Notice, Phase,
        Place, PoolRecord, Record as _, Report, Shared, Standing, StreamId, Terms, TideRecord,
        Timestamp, WorkerId,
    },
};

use super::{
    clock::{FAST, IDLE, LAP, LAP_NS, LONG, lap_after, within},
    found::{self, Found},
    whom::Whom,
};

/// Of requests that end, one in so many is looked at while all is well; after a bad one so many.
const ONE_IN: u32 = 8;
const CURIOUS: u32 = 64;

/// A record of a single worker, which needs no store.
struct Own<R>(R);

impl<R> Shared<R> for Own<R> {
    fn update<A>(&mut self, mut change: impl FnMut(&mut R) -> Change<A>) -> Result<A, Fault> {
        match change(&mut self.0) {
            Change::Keep(answer) | Change::Write(answer) => Ok(answer),
        }
    }
}

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
}

/// One rule.
pub struct Guarded {
    limits: Limits,
    rule: Rule,
    gate: Gate,
    pool: Own<PoolRecord>,
    lookout: Lookout,
    tide: Own<TideRecord>,
    whom: Whom,
    /// Arrivals since the last lap that the gate was not asked about.
    counted: u32,
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
    /// Of a rule. With `counts` it is not known what is open: only the arrival limit holds.
    pub fn new(rule: &Rule, counts: bool) -> Self {
        let limits = Limits {
            inflight: rule.limits.inflight.filter(|_| !counts),
            arrivals_per_s: rule.limits.arrivals_per_s,
            // No trace says when the upstream answered.
            connecting: None,
        };
        Self {
            limits,
            rule: rule.clone(),
            gate: Gate::new(WorkerId(NonZeroU32::MIN), Timestamp::ZERO),
            pool: Own(PoolRecord::default()),
            lookout: Lookout::default(),
            tide: Own(TideRecord::fresh(rule.surge)),
            whom: Whom::default(),
            counted: 0,
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
            self.gate = Gate::new(WorkerId(NonZeroU32::MIN), to);
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
                    if self.gate.needs_fast_tick() {
                        self.next_tick = self.next_tick.min(at.after(FAST));
                    }
                }
                _ if self.next_tick <= to => self.tick(self.next_tick),
                _ => break,
            }
        }
    }

    /// Lets `many` arrive in the lap that begins at `start`, evenly; with their callers.
    pub fn arrive<'k>(
        &mut self,
        start: Timestamp,
        many: u32,
        mut key: impl FnMut() -> Option<&'k [u8]>,
    ) {
        self.advance(start);
        let at = |index| within(start, index, many);
        if !self.fits(start, many) {
            for index in 0..many {
                let key = key();
                let stream = Stream {
                    lasts: Duration::ZERO,
                    http: false,
                    answers: Answers::default(),
                };
                self.begin(at(index), stream, key);
            }
            return;
        }
        self.counted = self.counted.saturating_add(many);
        self.found.pass(many);
        for index in 0..many {
            if let Some(key) = key() {
                self.whom.on_arrival(key, false, self.lookout.phase());
            }
            if self.lookout.on_arrival() {
                self.hurry(at(index));
            }
        }
    }

    /// Whether all of so many arrivals of a lap are admitted without asking the gate.
    fn fits(&mut self, start: Timestamp, many: u32) -> bool {
        let Some(limit) = self.limits.arrivals_per_s else {
            return self.limits.is_none();
        };
        let room = !self.gate.needs_fast_tick()
            && self.pool.0.arrivals.at_most(start) + u64::from(many) <= u64::from(limit.get());
        if room {
            let half = many / 2;
            self.pool.0.arrivals.add(start, many - half);
            self.pool.0.arrivals.add(start.after(LAP / 2), half);
        }
        room
    }

    /// A connection or request begins.
    pub fn begin(&mut self, at: Timestamp, stream: Stream, key: Option<&[u8]>) {
        self.advance(at);
        let id = self.next_id();
        let arrival = Arrival {
            id: StreamId(id),
            terms: Terms {
                limits: self.limits,
                hold: self.rule.hold,
                // What enforce would do is done, or nobody would learn of it.
                ..Terms::default()
            },
            class: Class::default(),
            counted: None,
        };
        let (decision, place) = self.gate.on_arrival(&arrival, at, &mut self.pool);
        if let Some(key) = key {
            self.whom.on_arrival(key, stream.http, self.lookout.phase());
        }
        if self.lookout.on_arrival() {
            self.hurry(at);
        }
        if decision == Decision::Admit {
            self.closes.push(Reverse((at.after(stream.lasts), id)));
        }
        if place != Place::Nowhere {
            self.open.insert(id, Open { stream, place });
        }
        if self.gate.needs_fast_tick() {
            self.next_tick = self.next_tick.min(at.after(FAST));
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
        self.gate.on_close(StreamId(id), open.place);
        if open.stream.http {
            self.gate.give_back(at, &mut self.pool);
        }
        self.ended = self.ended.wrapping_add(1);
        let answers = open.stream.answers;
        if !open.stream.http || self.curious > 0 || self.ended.is_multiple_of(ONE_IN) {
            self.curious = match answers.bad() {
                0 => self.curious.saturating_sub(1),
                _ => CURIOUS,
            };
            self.lookout.on_answers(answers);
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
        self.next_tick = if self.gate.needs_fast_tick() {
            steady.min(now.after(FAST))
        } else if lap && self.is_idle() {
            now.after(IDLE)
        } else {
            steady
        };
    }

    /// Whether nothing is going on. That the others know nothing either is a matter of 5 s.
    fn is_idle(&self) -> bool {
        self.open.is_empty()
            && self.gate.is_idle()
            && self.gate.seen().is_idle()
            && matches!(self.lookout.phase(), Phase::Calm | Phase::WarmUp)
    }

    fn serve(&mut self, now: Timestamp) {
        let mut outcomes = Vec::new();
        self.gate.on_tick(now, &mut self.pool, &mut outcomes);
        for outcome in outcomes {
            let id = outcome.id.0;
            match outcome.decision {
                Decision::Admit => {
                    if let Some(open) = self.open.get_mut(&id) {
                        open.place = outcome.place;
                        let end = now.after(open.stream.lasts);
                        self.closes.push(Reverse((end, id)));
                    }
                }
                _ => {
                    self.open.remove(&id);
                }
            }
        }
    }

    /// Tells what was seen in a lap, and learns how things stand.
    fn lap(&mut self, now: Timestamp) {
        let mut arrivals = std::mem::take(&mut self.counted);
        if self.gated {
            let decided = self.gate.take_tally();
            self.lookout.on_tally(&decided);
            self.found.count(&decided);
            arrivals = arrivals.saturating_add(decided.arrivals);
        }
        let seen = self.gate.seen();
        let standing = Standing {
            open: seen.open + seen.ghosts,
            waiting: seen.waiting + seen.short,
            limit: self.limits.inflight.map_or(0, NonZeroU32::get),
            adaptive: false,
        };
        let report = self.lookout.on_tick(now, standing, &mut self.tide);
        self.whom.on_tick(now, self.lookout.phase());
        let baseline = self.tide.0.alarm().detector.baseline_per_s();
        self.found.series.add(now, arrivals, baseline);
        if let Ok(Some(report)) = report {
            self.note(&report, now);
        }
    }

    fn hurry(&mut self, now: Timestamp) {
        if let Ok(report) = self.lookout.hurry(now, &mut self.tide) {
            self.note(&report, now);
        }
    }

    fn note(&mut self, report: &Report, now: Timestamp) {
        let standing = found::Standing {
            phase: report.phase,
            began: report.surges > 0,
            rate_per_s: report.rate_per_s,
            baseline_per_s: report.baseline_per_s,
        };
        self.found.note(&standing, now);
        match report.notice {
            Some(Notice::SurgeStarted { signal, .. }) => {
                self.found.tell(signal, self.whom.culprits());
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
        let last = lap_after(Timestamp::from_nanos(end.as_nanos().saturating_sub(1)));
        self.run(last);
        let mut now = self.now.max(last);
        let patience = self.rule.hold.map_or(Duration::ZERO, |hold| hold.max_wait);
        let until = now.after(patience + FAST);
        while self.gate.needs_fast_tick() && now <= until {
            now = now.after(FAST);
            self.serve(now);
        }
        let tally = self.gate.take_tally();
        self.found.count(&tally);
        if self.found.is_untold() {
            let signal = tidegate::engine::Signal::Arrivals;
            self.found.tell(signal, self.whom.culprits());
        }
        self.found
    }
}
