//! The gate of one rule in one worker: who goes on, who waits, who is refused.

use alloc::vec::Vec;
use core::{num::NonZeroU32, time::Duration};

use super::{
    arrivals::Tokens,
    crowd::Here,
    decision::{
        Arrival, Booked, Class, Counted, Decision, Fault, MAX_CLASSES, Outcome, Place, Reason,
        Terms,
    },
    ledger::{Ledger, Regime, is_leased},
    record::{Change, DEAD_AFTER, PoolRecord, Row, Shared, TableFull, Totals, WorkerId},
    tally::Tally,
    time::Timestamp,
    waiting::{StreamId, Waiter, Waiting},
    window::Window,
};

/// The trailing time over which the arrival rate is reported.
pub const RATE_SPAN: Duration = Duration::from_secs(5);
const RATE_BUCKETS: usize = 26;

/// How often a gate tells the others what it has, and looks what they have.
const BEAT: Duration = Duration::from_millis(100);
/// The same, where slots are idle that another worker may lack: so often that whoever waits for one
/// has it within half of the time that it waits by default.
const LEASE_BEAT: Duration = Duration::from_millis(50);
/// What is in the record for so long has been read by everybody at a beat.
const TOLD_AFTER: Duration = Duration::from_millis(105);
/// How often an idle gate looks whether a worker died.
const IDLE_BEAT: Duration = Duration::from_secs(1);
/// A gap between two ticks that means that the clock stepped, or that this worker was stuck. Longer
/// than the ticks of an idle worker, shorter than what makes one dead.
const STEADY_GAP: Duration = Duration::from_millis(1500);

/// So few free slots are scarce, however many there are in all: every worker may hide a few that
/// it has not told to be free.
const SCARCE: u64 = 64;
/// A worker takes as many slots or tokens at once as it needs in 50 ms, but at least and at most so
/// many. One that needs less than a slot has none idle: it would spare an update or two, and be
/// missing elsewhere until its worker's next tick.
const NEEDED: u32 = (RATE_SPAN.as_millis() / 50) as u32;
const SLOTS: (u32, u32) = (0, 64);
const TOKENS: (u32, u32) = (1, 64);
/// A lease of a worker that has not told of itself for so long is not used: it may be buried.
const TRUSTED: Duration = Duration::from_secs(1);
/// At most this many are served in one tick, so that a tick stays short.
const BATCH: usize = 256;

/// What this worker has open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mine {
    pub open: u32,
    pub ghosts: u32,
    /// Of those that are open, how many are only on paper: they have ended in truth.
    pub paper: u32,
    pub connecting: u32,
    pub classes: [u32; MAX_CLASSES],
}

impl Mine {
    /// How many are open in truth beyond those that have a slot.
    pub fn ghosts(&self) -> u32 {
        self.ghosts.saturating_sub(self.paper)
    }

    /// Counts one that is open.
    fn open(&mut self, class: Class) {
        self.open += 1;
        if let Some(open) = self.classes.get_mut(usize::from(class.index)) {
            *open += 1;
        }
    }

    /// Counts one that is admitted; whether it is connecting.
    pub fn book(&mut self, waiter: &Waiter) -> bool {
        self.open(waiter.class);
        if waiter.ghost {
            // It has been open all along, and may have been answered long ago, or be gone.
            if waiter.took.is_some() {
                self.paper += 1;
            } else {
                self.ghosts = self.ghosts.saturating_sub(1);
            }
            return false;
        }
        let connecting = waiter.terms.limits.connecting.is_some();
        self.connecting += u32::from(connecting);
        connecting
    }
}

/// The gate of one rule in one worker.
///
/// It decides by what all workers have, which is in the [`PoolRecord`]: its own numbers are here, and
/// its row in the pool says them to the others.
///
/// It asks the record for a batch of slots or tokens at once, and admits from its lease while that
/// lasts; the others count a leased slot as taken, so the limits are exact. Slots are leased only
/// while there are plenty: in a surge, under a lowered limit, when a quarter of the slots is used or
/// few are left, or while anybody waits, each arrival asks. While more is open than the limit, since
/// that was lowered, nobody takes the slot of one that ends without asking. Who lacks a slot that others have idle
/// says so, and has it when they have ticked; what is closed stays leased until then.
///
/// A slot that was given back becomes free with the
/// next arrival or tick and not at once: the host tells of the end of a connection before it has
/// closed the upstream's side of it. A shell that knows better [gives it back](Self::give_back).
///
/// In shadow everybody goes on, and who would have had to wait does so on paper, also when it has
/// ended already: on paper it then has its slot for as long as it took, as of the time when enforce
/// would have let it begin. That is known to a tick. Who left because nobody answered is taken for
/// one that was done.
///
/// Cost of an arrival: nothing shared where the rule has no limit, or the lease has what it needs;
/// else one update of the pool. Of a close: nothing, and one update of what is given back while slots
/// are scarce. Memory: what waits, which `hold.max_waiting` bounds.
#[derive(Clone, Debug)]
pub struct Gate {
    me: WorkerId,
    mine: Mine,
    here: Here,
    waiting: Waiting,
    /// Shadow: slots that are taken on paper alone, until then; no more than the inflight limit.
    paper: Vec<(Timestamp, Booked)>,
    arrived: Window<RATE_BUCKETS>,
    /// Arrivals that are not in there yet.
    uncounted: u32,
    /// The row as the others know it.
    told: Option<Row>,
    tokens: Tokens,
    /// What the lease was taken for; it is for no other.
    terms: Option<Terms>,
    /// So many slots may be idle here.
    idle: u32,
    /// What all workers had when the record was read last.
    seen: Totals,
    /// Slots were scarce then.
    tight: bool,
    /// When somebody lacked a slot the last time.
    short: Option<Timestamp>,
    regime: Regime,
    /// It takes nothing in advance.
    alone: bool,
    /// The newest time that was told.
    latest: Timestamp,
    last_tick: Timestamp,
    last_beat: Timestamp,
    steady_since: Timestamp,
    tally: Tally,
}

impl Gate {
    /// A gate of worker `me` that has nothing open.
    pub fn new(me: WorkerId, now: Timestamp) -> Self {
        Self {
            me,
            mine: Mine::default(),
            here: Here::default(),
            waiting: Waiting::default(),
            paper: Vec::new(),
            arrived: Window::new(RATE_SPAN),
            uncounted: 0,
            told: None,
            tokens: Tokens::default(),
            terms: None,
            idle: 0,
            seen: Totals::default(),
            tight: false,
            short: None,
            regime: Regime {
                surge: false,
                part: 1.0,
            },
            alone: false,
            latest: now,
            last_tick: now,
            last_beat: Timestamp::ZERO,
            steady_since: now,
            tally: Tally::default(),
        }
    }

    /// Says that there is no other worker: then nothing is leased, as nobody asks less for it.
    pub fn set_alone(&mut self) {
        self.alone = true;
    }

    /// Decides about an arrival.
    ///
    /// `now` must be the clock's where the gate [asks](Self::asks); the last tick's is enough
    /// elsewhere. In shadow the decision is what enforce would have done.
    #[inline]
    pub fn on_arrival(
        &mut self,
        arrival: &Arrival<'_>,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
    ) -> (Decision, Place) {
        self.count(now);
        let terms = arrival.terms;
        if terms.limits.is_none() || (self.has_slot(terms, now) && self.has_token(terms, now)) {
            return (Decision::Admit, self.book_at_once(arrival));
        }
        self.ask(arrival, now, pool)
    }

    /// Decides about one for which nothing is leased.
    fn ask(
        &mut self,
        arrival: &Arrival<'_>,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
    ) -> (Decision, Place) {
        let mut waiter = waiter(arrival, now);
        if arrival.terms.limits.arrivals_per_s.is_some() && self.tokens.is_dry(now) {
            let decision = self.hold_or_refuse(waiter, Reason::ArrivalLimit);
            return self.left_out(decision, &waiter);
        }
        if arrival.terms.hold.is_some() && self.waiting.must_queue(&waiter) {
            waiter.lacks = Some(Reason::InflightLimit);
        } else if let Err(fault) = self.admit(core::slice::from_mut(&mut waiter), now, pool) {
            self.tally.fault(fault);
            waiter.lacks = (fault == Fault::StoreContended && arrival.terms.hold.is_some())
                .then_some(Reason::InflightLimit);
        }
        match waiter.lacks {
            None => {
                self.tally.admitted += 1;
                (Decision::Admit, self.book(&waiter, now).0)
            }
            Some(reason) => {
                let decision = self.hold_or_refuse(waiter, reason);
                self.left_out(decision, &waiter)
            }
        }
    }

    /// Whether an arrival must ask the others, or be put down at its time, so that the clock must be
    /// read for it.
    pub fn asks(&self, terms: &Terms) -> bool {
        let limits = &terms.limits;
        !limits.is_none() && (limits.arrivals_per_s.is_some() || !self.has_slot(terms, self.latest))
    }

    /// Whether a slot is leased that one more may have.
    #[inline]
    fn has_slot(&self, terms: &Terms, now: Timestamp) -> bool {
        let Some(told) = &self.told else { return false };
        // Who has more open than may be takes no slot of one that ends: a limit was lowered.
        let fits = terms.limits.inflight.is_none_or(|limit| {
            self.mine.open < told.leased && self.seen.held <= u64::from(limit.get())
        });
        let same = |other: &Terms| {
            (other.limits, other.reserved, other.shadow)
                == (terms.limits, terms.reserved, terms.shadow)
        };
        fits && !terms.limits.is_none()
            && is_leased(terms)
            && self.regime.is_calm()
            && !self.waiting.needs_tick()
            && u128::from(told.beat_ms.abs_diff(now.as_millis())) <= TRUSTED.as_millis()
            && self.terms.as_ref().is_some_and(same)
    }

    /// Takes a token that is leased, if the rule wants one.
    fn has_token(&mut self, terms: &Terms, now: Timestamp) -> bool {
        terms.limits.arrivals_per_s.is_none() || self.tokens.take(now)
    }

    /// Refuses an arrival for a reason that lies outside of the limits.
    pub fn refuse(
        &mut self,
        arrival: &Arrival<'_>,
        reason: Reason,
        now: Timestamp,
    ) -> (Decision, Place) {
        self.count(now);
        let waiter = waiter(arrival, now);
        let decision = self.refused(&waiter, reason);
        self.left_out(decision, &waiter)
    }

    /// Counts one that was admitted, and is refused after all.
    pub fn turn_out(&mut self, shadow: bool, reason: Reason) {
        self.tally.reject(shadow, reason);
    }

    /// Counts an arrival, whatever becomes of it.
    #[inline]
    fn count(&mut self, now: Timestamp) {
        self.uncounted = self.uncounted.saturating_add(1);
        self.latest = now;
        self.tally.arrivals += 1;
    }

    /// Puts the arrivals down that came since this was done last.
    fn count_up(&mut self, now: Timestamp) {
        self.arrived.add(now, core::mem::take(&mut self.uncounted));
    }

    /// Where one stands that was not admitted.
    fn left_out(&mut self, decision: Decision, waiter: &Waiter) -> (Decision, Place) {
        let place = match decision {
            _ if waiter.terms.shadow => {
                self.tally.admitted += 1;
                self.mine.ghosts += 1;
                Place::Ghost
            }
            Decision::Hold => Place::Waiting,
            _ => Place::Nowhere,
        };
        (decision, place)
    }

    /// Takes what all workers together found out: whether there is a surge, in which nothing is
    /// learned of what is normal, and what part of the inflight limit is in force, from 0 to 1.
    pub fn set_regime(&mut self, surge: bool, limit_part: f32) {
        self.regime = Regime {
            surge,
            part: limit_part,
        };
        if !self.regime.is_calm() {
            self.idle = 0;
        }
    }

    /// Whether so few slots are free that it matters who takes them.
    pub fn is_tight(&self) -> bool {
        self.tight || self.waiting.needs_tick()
    }

    /// The upstream answered a stream that was connecting.
    pub fn on_answered(&mut self, place: &mut Place) {
        if let Place::Open { connecting, .. } = place
            && core::mem::take(connecting)
        {
            self.mine.connecting = self.mine.connecting.saturating_sub(1);
        }
    }

    /// A stream ended, wherever it stood.
    #[inline]
    pub fn on_close(&mut self, id: StreamId, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Waiting => {
                self.waiting.remove(id);
            }
            Place::Open { connecting, booked } => {
                let connecting = u32::from(connecting);
                self.mine.connecting = self.mine.connecting.saturating_sub(connecting);
                if booked.late_ms == 0 {
                    self.unbook(booked);
                } else {
                    self.mine.paper += 1;
                    let late = Duration::from_millis(u64::from(booked.late_ms));
                    self.paper.push((self.latest.after(late), booked));
                }
            }
            Place::Ghost => {
                self.waiting.end(id, self.latest);
                self.mine.ghosts = self.mine.ghosts.saturating_sub(1);
            }
        }
    }

    /// A slot is free.
    fn unbook(&mut self, booked: Booked) {
        self.mine.open = self.mine.open.saturating_sub(1);
        if let Some(open) = self.mine.classes.get_mut(usize::from(booked.class)) {
            *open = open.saturating_sub(1);
        }
        if let Some((place, weight)) = booked.slot {
            self.here.close(place, weight);
        }
    }

    /// Frees the slots that were taken on paper until now; all of them when the clock stepped back.
    fn clear_paper(&mut self, now: Timestamp) {
        let stepped = now < self.latest;
        let due = |(until, _): &mut (Timestamp, Booked)| stepped || *until <= now;
        let ended: Vec<_> = self.paper.extract_if(.., due).collect();
        for (_, booked) in ended {
            self.mine.paper = self.mine.paper.saturating_sub(1);
            self.unbook(booked);
        }
        self.latest = now;
    }

    /// Serves those that wait, refuses those that waited too long, and tells the other workers.
    pub fn on_tick(
        &mut self,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
        out: &mut Vec<Outcome>,
    ) {
        self.clear_paper(now);
        self.watch_the_clock(now);
        while let Some(waiter) = self.waiting.pop_displaced() {
            out.extend(self.gave_up(&waiter, now, Reason::HoldFull));
        }
        let mut late = Vec::new();
        self.waiting.expire(now, |waiter| late.push(waiter));
        for waiter in late {
            out.extend(self.gave_up(&waiter, now, Reason::HoldTimeout));
        }
        self.serve(now, pool, out);
        self.beat(now, pool);
    }

    /// Whether somebody waits for the next tick, so that it should come soon.
    pub fn needs_fast_tick(&self) -> bool {
        self.waiting.needs_tick()
            || self.mine.connecting > 0
            || !self.paper.is_empty()
            || self.gives_back_urgently()
    }

    /// Whether slots are idle here that another worker may lack, so that a tick should come within
    /// 50 ms.
    pub fn has_idle_slots(&self) -> bool {
        self.idle > 0
    }

    /// Whether the upstream has not answered someone yet, and the rule limits how many those are.
    pub fn connects(&self) -> bool {
        self.mine.connecting > 0
    }

    /// Whether nothing is open, waiting or to be told.
    pub fn is_idle(&self) -> bool {
        self.mine.open == 0
            && self.mine.ghosts == 0
            && !self.waiting.needs_tick()
            && self.told.is_none()
    }

    /// Whoever waits does so by this inflight limit from now on, as whoever comes.
    pub fn set_limit(&mut self, inflight: Option<NonZeroU32>) {
        self.waiting.set_limit(inflight);
    }

    /// What all workers had together when this one looked last, at most a beat of 100 ms ago.
    pub fn seen(&self) -> Totals {
        self.seen
    }

    /// What happened since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        core::mem::take(&mut self.tally)
    }

    /// Whether others may be waiting for a slot that they don't know to be free.
    fn gives_back_urgently(&self) -> bool {
        let gives_back = self.told.as_ref().is_some_and(|told| {
            told.held() > self.mine.open.saturating_add(2 * self.idle)
                || told.connecting > self.mine.connecting
        });
        gives_back && (self.tight || self.seen.waiting > 0 || !self.regime.is_calm())
    }

    /// Takes slots for those of `candidates` that fit, in their order; what the others lack is
    /// written into them.
    fn admit(
        &mut self,
        candidates: &mut [Waiter],
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
    ) -> Result<(), Fault> {
        if candidates
            .iter()
            .all(|waiter| waiter.terms.limits.is_none())
        {
            candidates.iter_mut().for_each(|waiter| waiter.lacks = None);
            return Ok(());
        }
        self.count_up(now);
        let (me, here, mine) = (self.me, &self.here, self.mine);
        let (regime, tokens) = (self.regime, &self.tokens);
        let short = self.is_short(now);
        let row = row(me, mine, &self.waiting, &mut self.arrived, short, now);
        let terms = candidates.first().map(|first| first.terms);
        let terms = terms.unwrap_or_default();
        let rests = self.waiting.is_empty() && !short && !self.alone;
        let answer = pool.update(|record| {
            let known = record.row(me).is_some_and(|row| row.short);
            let limited = terms.limits.arrivals_per_s.is_some();
            let stepped = limited && record.arrivals.steps_back(now);
            let mut ledger = Ledger::new(record, me, mine, here, regime);
            let mut tokens = ledger.settle(tokens);
            let mut admitted = false;
            for waiter in &mut *candidates {
                waiter.lacks = ledger.lacks(waiter, now);
                if waiter.lacks.is_none() {
                    ledger.book(waiter, now);
                    admitted = true;
                }
            }
            let tight = ledger.is_tight(&terms);
            let starves = ledger.others_are_idle() && candidates.iter().any(lacks_slot);
            let workers = ledger.workers(me);
            let idle = if admitted && rests {
                ledger.idle(&terms, batch(row.arrived, SLOTS), me)
            } else {
                0
            };
            let next_token = ledger.next_token();
            if !admitted && (!starves || known) {
                let answer = Ok(Answer {
                    told: None,
                    tight,
                    workers,
                    next_token,
                    totals: record.totals(),
                });
                return if stepped {
                    Change::Write(answer)
                } else {
                    Change::Keep(answer)
                };
            }
            let leased = ledger.lease(idle);
            match terms.limits.arrivals_per_s {
                Some(limit) if rests && is_leased(&terms) => {
                    let more = batch(row.arrived, TOKENS) - 1;
                    ledger.draw(&mut tokens, limit, more, me, now);
                }
                _ => tokens.forget(),
            }
            let mut row = ledger.row(row.clone(), leased, &tokens);
            row.short |= starves;
            match record.set_row(row.clone()) {
                Ok(()) => Change::Write(Ok(Answer {
                    told: Some((row, tokens, idle)),
                    tight,
                    workers,
                    next_token,
                    totals: record.totals(),
                })),
                Err(TableFull) => Change::Keep(Err(Fault::WorkersFull)),
            }
        });
        let answer = answer.and_then(|answer| answer)?;
        if let Some((row, tokens, idle)) = answer.told {
            self.told = Some(row);
            self.tokens = tokens;
            self.terms = Some(terms);
            self.idle = idle;
        }
        self.tight = answer.tight;
        self.seen = answer.totals;
        if candidates.iter().any(lacks_slot) {
            self.short = Some(now);
        }
        if let [
            Waiter {
                lacks: Some(Reason::ArrivalLimit),
                ..
            },
        ] = candidates
            && let Some(limit) = terms.limits.arrivals_per_s
            && !self.alone
        {
            self.tokens
                .run_dry(now, answer.workers, limit.get(), answer.next_token);
        }
        Ok(())
    }

    /// Books one that is admitted as it comes, and need not be answered; where it stands.
    #[inline]
    fn book_at_once(&mut self, arrival: &Arrival<'_>) -> Place {
        self.tally.admitted += 1;
        self.mine.open(arrival.class);
        Place::Open {
            connecting: false,
            booked: Booked {
                class: arrival.class.index,
                slot: self.open_slot(arrival.counted),
                late_ms: 0,
            },
        }
    }

    /// Counts a slot for its caller.
    #[inline]
    fn open_slot(&mut self, counted: Option<Counted>) -> Option<(u8, u8)> {
        let Counted { caller, weight } = counted?;
        Some((self.here.open(caller, weight)?, weight))
    }

    /// Books one that is admitted; where it stands.
    fn book(&mut self, waiter: &Waiter, now: Timestamp) -> (Place, Booked) {
        let connecting = self.mine.book(waiter);
        let slot = self.open_slot(waiter.counted);
        // Where nothing limits what is open, it does not matter until when it is.
        let limited = waiter.ghost && waiter.terms.limits.inflight.is_some();
        let booked = Booked {
            class: waiter.class.index,
            slot,
            late_ms: if limited {
                u32::try_from(now.since(waiter.since).as_millis()).unwrap_or(u32::MAX)
            } else {
                0
            },
        };
        (Place::Open { connecting, booked }, booked)
    }

    fn hold_or_refuse(&mut self, waiter: Waiter, reason: Reason) -> Decision {
        let Some(hold) = waiter.terms.hold else {
            return self.refused(&waiter, reason);
        };
        let max = hold.max_waiting.get() as usize;
        if self.waiting.len() >= max && !self.waiting.displace(&waiter, max) {
            return self.refused(&waiter, waiter.in_vain(Reason::HoldFull));
        }
        let shadow = waiter.terms.shadow;
        self.waiting.push(Waiter {
            ghost: shadow,
            ..waiter
        });
        if !shadow {
            self.tally.held += 1;
        }
        Decision::Hold
    }

    /// Counts one that is refused or led elsewhere.
    fn refused(&mut self, waiter: &Waiter, reason: Reason) -> Decision {
        let terms = &waiter.terms;
        match reason {
            Reason::HotCaller | Reason::SurgePressure => self.tally.shed += 1,
            _ => self.tally.pressure += 1,
        }
        if terms.redirects {
            self.tally.redirect(terms.shadow, reason);
            return Decision::Redirect(reason);
        }
        self.tally.reject(terms.shadow, reason);
        Decision::Reject(reason)
    }

    /// Refuses one that waited; nobody is to be told if it has ended.
    fn gave_up(&mut self, waiter: &Waiter, now: Timestamp, otherwise: Reason) -> Option<Outcome> {
        let decision = self.refused(waiter, waiter.in_vain(otherwise));
        waiter.took.is_none().then_some(Outcome {
            id: waiter.id,
            decision,
            place: if waiter.terms.shadow {
                Place::Ghost
            } else {
                Place::Nowhere
            },
            waited: now.since(waiter.since),
            shadow: waiter.terms.shadow,
        })
    }

    /// Admits those that wait while there are slots.
    fn serve(
        &mut self,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
        out: &mut Vec<Outcome>,
    ) {
        if self.waiting.is_empty() {
            return;
        }
        let mut next = self.waiting.next(BATCH);
        if let Err(fault) = self.admit(&mut next, now, pool) {
            // Whoever waits goes on waiting, and is refused in time: nobody is stranded.
            self.tally.fault(fault);
            return;
        }
        self.waiting.settle(&next);
        for waiter in next.iter().filter(|waiter| waiter.lacks.is_none()) {
            let shadow = waiter.terms.shadow;
            if !shadow {
                self.tally.admitted += 1;
            }
            let (place, booked) = self.book(waiter, now);
            if let Some(took) = waiter.took {
                if waiter.terms.limits.inflight.is_some() {
                    self.paper.push((now.after(took), booked));
                } else {
                    // It was open for no limit's sake, and nothing would bound how many are kept.
                    self.mine.paper = self.mine.paper.saturating_sub(1);
                    self.unbook(booked);
                }
                continue;
            }
            out.push(Outcome {
                id: waiter.id,
                decision: Decision::Admit,
                place,
                waited: now.since(waiter.since),
                shadow,
            });
        }
    }

    /// Remembers since when the clock has gone on without a step.
    fn watch_the_clock(&mut self, now: Timestamp) {
        let stepped = now < self.last_tick || now.since(self.last_tick) > STEADY_GAP;
        if stepped {
            self.steady_since = now;
            self.last_beat = Timestamp::ZERO;
            // The others may have buried this worker meanwhile.
            if let Some(told) = &mut self.told {
                told.beat_ms = 0;
            }
        }
        self.last_tick = now;
    }

    /// Tells the others what is here, learns what they have, and buries the dead.
    fn beat(&mut self, now: Timestamp, pool: &mut impl Shared<PoolRecord>) {
        let mut row = self.row(now);
        let news = match &self.told {
            Some(old) => {
                (row.leased, row.tokens) = (old.leased, old.tokens);
                !row.says_the_same(old)
            }
            None => !row.is_idle(),
        };
        let since = now.since(self.last_beat);
        // Well before the others take this worker for dead.
        let stale = self.told.as_ref().is_some_and(|old| {
            old.beat_ms.abs_diff(row.beat_ms) >= IDLE_BEAT.as_millis() as u64 / 2
        });
        let beat = if self.idle > 0 { LEASE_BEAT } else { BEAT };
        let due = since >= beat && (news || self.told.is_some() || !self.seen.is_idle());
        let urgent = self.gives_back_urgently();
        if !(due || urgent || since >= IDLE_BEAT) {
            return;
        }
        let steady = now.since(self.steady_since) >= DEAD_AFTER;
        self.tell(now, row, steady, news || stale, pool);
    }

    /// Tells the others at once that slots are free, if that may matter to them.
    ///
    /// For the shell, when it knows that the upstream's side is closed already.
    pub fn give_back(&mut self, now: Timestamp, pool: &mut impl Shared<PoolRecord>) {
        if self.gives_back_urgently() {
            let row = self.row(now);
            self.tell(now, row, false, true, pool);
        }
    }

    /// Reads the record, and writes this worker's row into it if that is news.
    fn tell(
        &mut self,
        now: Timestamp,
        row: Row,
        steady: bool,
        news: bool,
        pool: &mut impl Shared<PoolRecord>,
    ) {
        let (me, regime, mine, here) = (self.me, self.regime, self.mine, &self.here);
        let tokens = &self.tokens;
        // A lease is for arrivals to come, and where none came for long there is none.
        let rests = self.waiting.is_empty() && !row.short && row.arrived > 0 && !self.alone;
        let terms = self.terms.filter(|_| rests).unwrap_or_default();
        let answer = pool.update(|record| {
            let reaped = if steady { record.reap(me, now) } else { 0 };
            let mut ledger = Ledger::new(record, me, mine, here, regime);
            let mut tokens = ledger.settle(tokens);
            ledger.keep(&mut tokens, now);
            let seated = ledger.seat(here);
            let idle = ledger.idle(&terms, batch(row.arrived, SLOTS), me);
            let leased = if terms.limits.inflight.is_some() {
                ledger.lease(idle)
            } else {
                mine.open
            };
            let row = ledger.row(row.clone(), leased, &tokens);
            let moved = match record.row(me) {
                Some(old) => (old.leased, old.tokens) != (row.leased, row.tokens),
                None => !row.is_idle(),
            };
            let told = record.set_row(row.clone()).map(|()| row);
            let learned = record.learn(now, regime.surge);
            let write = news || moved || seated || learned || reaped > 0;
            let answer = (record.totals(), reaped, told, tokens, idle);
            if write {
                Change::Write((answer, true))
            } else {
                Change::Keep((answer, false))
            }
        });
        self.last_beat = now;
        match answer {
            Ok(((totals, reaped, told, tokens, idle), written)) => {
                self.seen = totals;
                self.idle = idle;
                for _ in 0..reaped {
                    self.tally.fault(Fault::WorkerReaped);
                }
                if written {
                    self.tokens = tokens;
                }
                match told {
                    Ok(row) if row.is_idle() => self.told = None,
                    Ok(row) if written => self.told = Some(row),
                    Ok(_) => {}
                    Err(TableFull) => {
                        self.told = None;
                        self.tally.fault(Fault::WorkersFull);
                    }
                }
            }
            Err(fault) => self.tally.fault(fault),
        }
    }

    /// Whether somebody lacked a slot so lately that not everybody may have been told.
    fn is_short(&self, now: Timestamp) -> bool {
        self.short
            .is_some_and(|at| now >= at && now.since(at) < TOLD_AFTER)
    }

    /// This worker's row as of now.
    fn row(&mut self, now: Timestamp) -> Row {
        self.count_up(now);
        let short = self.is_short(now);
        row(
            self.me,
            self.mine,
            &self.waiting,
            &mut self.arrived,
            short,
            now,
        )
    }
}

/// An arrival that may have to wait.
fn waiter(arrival: &Arrival<'_>, now: Timestamp) -> Waiter {
    Waiter {
        id: arrival.id,
        since: now,
        terms: *arrival.terms,
        class: arrival.class,
        counted: arrival.counted,
        ghost: false,
        took: None,
        lacks: None,
    }
}

/// A worker's row but for its callers, whose seats the record knows.
fn row(
    me: WorkerId,
    mine: Mine,
    waiting: &Waiting,
    arrived: &mut Window<RATE_BUCKETS>,
    short: bool,
    now: Timestamp,
) -> Row {
    Row {
        open: mine.open,
        ghosts: mine.ghosts(),
        connecting: mine.connecting,
        classes: mine.classes,
        waiting: waiting.len() as u32,
        arrived: u32::try_from(arrived.count(now)).unwrap_or(u32::MAX),
        first: waiting.first_priority(),
        short,
        ..Row::idle(me, now.as_millis())
    }
}

/// What came of an update of the pool.
struct Answer {
    /// The row that was written, the tokens that are left, and how many slots may be idle here.
    told: Option<(Row, Tokens, u32)>,
    tight: bool,
    workers: u64,
    next_token: Option<Timestamp>,
    totals: Totals,
}

/// Whether one lacks a slot that there may be.
fn lacks_slot(waiter: &Waiter) -> bool {
    matches!(
        waiter.lacks,
        Some(Reason::InflightLimit | Reason::AdaptiveLimit | Reason::HotCaller)
    )
}

/// How many slots or tokens a worker needs in 50 ms by its arrivals of [`RATE_SPAN`], within bounds.
fn batch(arrived: u32, (least, most): (u32, u32)) -> u32 {
    (arrived / NEEDED).clamp(least, most)
}

/// Whether so many used slots leave few.
pub(super) fn is_scarce(limit: NonZeroU32, used: u64) -> bool {
    let limit = u64::from(limit.get());
    used * 4 >= limit || limit.saturating_sub(used) < SCARCE
}
