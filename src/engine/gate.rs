//! The gate of one rule in one worker: who goes on, who waits, who is refused.

use alloc::vec::Vec;
use core::{num::NonZeroU32, time::Duration};

use super::{
    decision::{Arrival, Decision, Fault, Order, Outcome, Place, Reason},
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
/// How often an idle gate looks whether a worker died.
const IDLE_BEAT: Duration = Duration::from_secs(1);
/// A gap between two ticks that means that the clock stepped, or that this worker was stuck. Longer
/// than the ticks of an idle worker, shorter than what makes one dead.
const STEADY_GAP: Duration = Duration::from_millis(1500);

/// So few free slots are scarce, however many there are in all: every worker may hide a few that
/// it has not told to be free.
const SCARCE: u64 = 64;
/// At most this many are served in one tick, so that a tick stays short.
const BATCH: usize = 256;

/// What this worker has open.
#[derive(Clone, Copy, Debug, Default)]
struct Mine {
    open: u32,
    ghosts: u32,
    connecting: u32,
}

impl Mine {
    /// Books one that is admitted.
    fn book(&mut self, waiter: &Waiter) -> Place {
        self.open += 1;
        if waiter.ghost {
            // It has been open all along, and may have been answered long ago.
            self.ghosts = self.ghosts.saturating_sub(1);
            return Place::Open { connecting: false };
        }
        let connecting = waiter.limits.connecting.is_some();
        self.connecting += u32::from(connecting);
        Place::Open { connecting }
    }
}

/// Why one could not be admitted.
enum Refusal {
    Limit(Reason),
    Fault(Fault),
}

/// The gate of one rule in one worker.
///
/// It decides by what all workers have, which is in the [`PoolRecord`]: its own numbers are here, and
/// its row in the pool says them to the others. A slot that was given back becomes free with the
/// next arrival or tick and not at once: the host tells of the end of a connection before it has
/// closed the upstream's side of it. A shell that knows better [gives it back](Self::give_back).
///
/// Cost of an arrival: one update of the pool if the rule has a limit, none otherwise; of a close:
/// none, and one of what is given back while slots are scarce. Memory: what waits, which `hold.max_waiting` bounds.
#[derive(Debug)]
pub struct Gate {
    me: WorkerId,
    mine: Mine,
    waiting: Waiting,
    arrived: Window<RATE_BUCKETS>,
    /// The row as the others know it.
    told: Option<Row>,
    /// What all workers had when the record was read last.
    seen: Totals,
    /// Slots were scarce then.
    tight: bool,
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
            waiting: Waiting::default(),
            arrived: Window::new(RATE_SPAN),
            told: None,
            seen: Totals::default(),
            tight: false,
            last_tick: now,
            last_beat: Timestamp::ZERO,
            steady_since: now,
            tally: Tally::default(),
        }
    }

    /// Decides about an arrival.
    ///
    /// `now` must be the clock's for a rule with limits; the last tick's is enough for one
    /// without. In shadow the decision is what enforce would have done.
    pub fn on_arrival(
        &mut self,
        arrival: &Arrival,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
    ) -> (Decision, Place) {
        self.arrived.add(now, 1);
        self.tally.arrivals += 1;
        let waiter = Waiter {
            id: arrival.id,
            since: now,
            max_wait: arrival.hold.map_or(Duration::ZERO, |hold| hold.max_wait),
            order: arrival.hold.map_or(Order::default(), |hold| hold.order),
            limits: arrival.limits,
            shadow: arrival.shadow,
            ghost: false,
        };
        let refusal = if self.must_queue(arrival) {
            Refusal::Limit(Reason::InflightLimit)
        } else {
            match self.admit(&[waiter], now, pool) {
                (1.., _) => return (Decision::Admit, self.pass(&waiter)),
                (0, refusal) => refusal,
            }
        };
        let decision = match refusal {
            Refusal::Limit(reason) => self.hold_or_reject(arrival, waiter, reason),
            Refusal::Fault(fault) => {
                self.tally.fault(fault);
                match (fault, arrival.hold) {
                    (Fault::StoreContended, Some(_)) => {
                        self.hold_or_reject(arrival, waiter, Reason::InflightLimit)
                    }
                    _ => return (Decision::Admit, self.pass(&waiter)),
                }
            }
        };
        let place = match decision {
            _ if arrival.shadow => {
                self.tally.admitted += 1;
                self.mine.ghosts += 1;
                Place::Ghost
            }
            Decision::Hold => Place::Waiting,
            _ => Place::Nowhere,
        };
        (decision, place)
    }

    /// The upstream answered a stream that was connecting.
    pub fn on_answered(&mut self, place: &mut Place) {
        if let Place::Open { connecting } = place
            && core::mem::take(connecting)
        {
            self.mine.connecting = self.mine.connecting.saturating_sub(1);
        }
    }

    /// A stream ended, wherever it stood.
    pub fn on_close(&mut self, id: StreamId, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Waiting => {
                self.waiting.remove(id);
            }
            Place::Open { connecting } => {
                let connecting = u32::from(connecting);
                self.mine.open = self.mine.open.saturating_sub(1);
                self.mine.connecting = self.mine.connecting.saturating_sub(connecting);
            }
            Place::Ghost => {
                self.waiting.remove(id);
                self.mine.ghosts = self.mine.ghosts.saturating_sub(1);
            }
        }
    }

    /// Serves those that wait, refuses those that waited too long, and tells the other workers.
    pub fn on_tick(
        &mut self,
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
        out: &mut Vec<Outcome>,
    ) {
        self.watch_the_clock(now);
        while let Some(waiter) = self.waiting.pop_displaced() {
            out.push(self.refused(&waiter, now, Reason::HoldFull));
        }
        let mut late = Vec::new();
        self.waiting.expire(now, |waiter| late.push(waiter));
        out.extend(
            late.iter()
                .map(|waiter| self.refused(waiter, now, Reason::HoldTimeout)),
        );
        self.serve(now, pool, out);
        self.beat(now, pool);
    }

    /// Whether somebody waits for the next tick, so that it should come soon.
    pub fn needs_fast_tick(&self) -> bool {
        self.waiting.needs_tick() || self.mine.connecting > 0 || self.gives_back_urgently()
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
        let gives_back = self.told.is_some_and(|told| {
            told.open > self.mine.open || told.connecting > self.mine.connecting
        });
        gives_back && (self.tight || self.seen.waiting > 0)
    }

    /// Whether others came first and are served first.
    fn must_queue(&self, arrival: &Arrival) -> bool {
        !self.waiting.is_empty()
            && arrival
                .hold
                .is_some_and(|hold| hold.order == Order::OldestFirst)
    }

    /// Takes slots for as many of `candidates` as fit, in their order; how many did, and why the
    /// next one did not.
    fn admit(
        &mut self,
        candidates: &[Waiter],
        now: Timestamp,
        pool: &mut impl Shared<PoolRecord>,
    ) -> (u32, Refusal) {
        let full = Refusal::Limit(Reason::InflightLimit);
        if candidates.iter().all(|waiter| waiter.limits.is_none()) {
            return (candidates.len() as u32, full);
        }
        let (me, mine) = (self.me, self.mine);
        let mut row = self.row(now);
        let answer = pool.update(|record| {
            let others = record.others(me);
            let (mut taken, mut refusal) = (mine, None);
            let mut admitted = 0;
            for waiter in candidates {
                if let Some(reason) = over(waiter, others, taken, record, now) {
                    refusal = Some(Refusal::Limit(reason));
                    break;
                }
                let _ = taken.book(waiter);
                if waiter.limits.arrivals_per_s.is_some() {
                    record.arrivals.add(now, 1);
                }
                admitted += 1;
            }
            let used = others.open + others.ghosts + u64::from(taken.open + taken.ghosts);
            let tight = candidates
                .first()
                .and_then(|waiter| waiter.limits.inflight)
                .is_some_and(|limit| {
                    let limit = u64::from(limit.get());
                    used * 4 >= limit || limit.saturating_sub(used) < SCARCE
                });
            row.open = taken.open;
            row.ghosts = taken.ghosts;
            row.connecting = taken.connecting;
            if admitted == 0 {
                return Change::Keep((0, refusal, tight, record.totals()));
            }
            match record.set_row(row) {
                Ok(()) => Change::Write((admitted, refusal, tight, record.totals())),
                Err(TableFull) => {
                    let full = Some(Refusal::Fault(Fault::WorkersFull));
                    Change::Keep((0, full, tight, record.totals()))
                }
            }
        });
        match answer {
            Ok((admitted, refusal, tight, totals)) => {
                if admitted > 0 {
                    self.told = Some(row);
                }
                self.tight = tight;
                self.seen = totals;
                (admitted, refusal.unwrap_or(full))
            }
            Err(fault) => (0, Refusal::Fault(fault)),
        }
    }

    /// Lets an arrival go on at once.
    fn pass(&mut self, waiter: &Waiter) -> Place {
        self.tally.admitted += 1;
        self.mine.book(waiter)
    }

    fn hold_or_reject(&mut self, arrival: &Arrival, waiter: Waiter, reason: Reason) -> Decision {
        let Some(hold) = arrival.hold else {
            return self.rejected(arrival.shadow, reason);
        };
        let max = hold.max_waiting.get() as usize;
        let room = self.waiting.len() < max
            || hold.order == Order::NewestFirst && self.waiting.displace_oldest(max);
        if !room {
            return self.rejected(arrival.shadow, Reason::HoldFull);
        }
        self.waiting.push(Waiter {
            ghost: arrival.shadow,
            ..waiter
        });
        if !arrival.shadow {
            self.tally.held += 1;
        }
        Decision::Hold
    }

    /// Counts a refusal.
    fn rejected(&mut self, shadow: bool, reason: Reason) -> Decision {
        self.tally.reject(shadow, reason);
        Decision::Reject(reason)
    }

    /// Refuses one that waited.
    fn refused(&mut self, waiter: &Waiter, now: Timestamp, reason: Reason) -> Outcome {
        Outcome {
            id: waiter.id,
            decision: self.rejected(waiter.shadow, reason),
            place: if waiter.shadow {
                Place::Ghost
            } else {
                Place::Nowhere
            },
            waited: now.since(waiter.since),
            shadow: waiter.shadow,
        }
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
        let next: Vec<Waiter> = self.waiting.in_order().take(BATCH).copied().collect();
        let (admitted, refusal) = self.admit(&next, now, pool);
        if let Refusal::Fault(fault) = refusal {
            // Whoever waits goes on waiting, and is refused in time: nobody is stranded.
            self.tally.fault(fault);
        }
        for _ in 0..admitted {
            let Some(waiter) = self.waiting.pop_next() else {
                return;
            };
            if !waiter.shadow {
                self.tally.admitted += 1;
            }
            let place = self.mine.book(&waiter);
            out.push(Outcome {
                id: waiter.id,
                decision: Decision::Admit,
                place,
                waited: now.since(waiter.since),
                shadow: waiter.shadow,
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
        let row = self.row(now);
        let told = |row: Row| Row { beat_ms: 0, ..row };
        let news = match self.told {
            Some(old) => told(old) != told(row),
            None => row.open + row.ghosts + row.waiting + row.arrived > 0,
        };
        let since = now.since(self.last_beat);
        // Well before the others take this worker for dead.
        let stale = self.told.is_some_and(|old| {
            old.beat_ms.abs_diff(row.beat_ms) >= IDLE_BEAT.as_millis() as u64 / 2
        });
        let due = since >= BEAT && (news || self.told.is_some() || !self.seen.is_idle());
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
        let me = self.me;
        let answer = pool.update(|record| {
            let reaped = if steady { record.reap(me, now) } else { 0 };
            let full = record.set_row(row).is_err();
            let answer = (record.totals(), reaped, full);
            if news || reaped > 0 {
                Change::Write(answer)
            } else {
                Change::Keep(answer)
            }
        });
        self.last_beat = now;
        match answer {
            Ok((totals, reaped, full)) => {
                self.seen = totals;
                let idle = row.open + row.ghosts + row.connecting + row.waiting + row.arrived == 0;
                if idle || full {
                    self.told = None;
                } else if news {
                    self.told = Some(row);
                }
                for _ in 0..reaped {
                    self.tally.fault(Fault::WorkerReaped);
                }
                if full {
                    self.tally.fault(Fault::WorkersFull);
                }
            }
            Err(fault) => self.tally.fault(fault),
        }
    }

    /// This worker's row as of now.
    fn row(&mut self, now: Timestamp) -> Row {
        Row {
            worker: self.me,
            beat_ms: now.as_millis(),
            open: self.mine.open,
            ghosts: self.mine.ghosts,
            connecting: self.mine.connecting,
            waiting: self.waiting.len() as u32,
            arrived: u32::try_from(self.arrived.count(now)).unwrap_or(u32::MAX),
        }
    }
}

/// The first limit that has no room for one more.
///
/// Ghosts are open in truth, so enforce counts them; in shadow only what enforce would have
/// admitted counts.
fn over(
    waiter: &Waiter,
    others: Totals,
    mine: Mine,
    record: &mut PoolRecord,
    now: Timestamp,
) -> Option<Reason> {
    let at = |limit: Option<NonZeroU32>, used: u64| {
        limit.is_some_and(|limit| used >= u64::from(limit.get()))
    };
    let ghosts = if waiter.shadow {
        0
    } else {
        others.ghosts + u64::from(mine.ghosts)
    };
    let open = others.open + u64::from(mine.open) + ghosts;
    let connecting = others.connecting + u64::from(mine.connecting);
    if at(waiter.limits.inflight, open) {
        Some(Reason::InflightLimit)
    } else if at(waiter.limits.connecting, connecting) {
        Some(Reason::ConnectingLimit)
    } else if at(waiter.limits.arrivals_per_s, record.arrivals.at_most(now)) {
        Some(Reason::ArrivalLimit)
    } else {
        None
    }
}
