//! Whether one more fits, by what all workers have.

use core::num::NonZeroU32;

use super::{
    arrivals::{Booking, Tokens},
    crowd::{Claim, Here, MAX_SEATS, Opens},
    decision::{Counted, MAX_CLASSES, Reason, Terms},
    gate::{Mine, is_scarce},
    record::{PoolRecord, Row, Totals, WorkerId},
    tide::in_force,
    time::Timestamp,
    waiting::Waiter,
};

/// The sums that decide whether one more fits: those of the other workers, as the record has them,
/// and one's own.
pub(super) struct Ledger<'a> {
    record: &'a mut PoolRecord,
    others: Totals,
    /// Its own row as the record has it.
    leased: u32,
    booking: Option<Booking>,
    /// Of the other workers.
    classes: [u64; MAX_CLASSES],
    first: Option<u8>,
    mine: Mine,
    /// What each caller with a seat has open here, and everywhere.
    own: Opens,
    opens: Opens,
    regime: Regime,
}

/// What all workers found out together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regime {
    /// There is a surge.
    pub surge: bool,
    /// What part of the inflight limit is in force, from 0 to 1.
    pub part: f32,
}

impl Regime {
    /// Whether the limits alone decide.
    pub fn is_calm(self) -> bool {
        !self.surge && self.part >= 1.0
    }
}

/// While less than half of the tokens are free, a worker takes at most so many of its share of them.
const SCARCE_PART: u64 = 8;

/// Whether slots and tokens are leased where these terms hold. Where connects are limited, each
/// arrival asks.
pub(super) const fn is_leased(terms: &Terms) -> bool {
    terms.limits.connecting.is_none()
}

impl<'a> Ledger<'a> {
    pub fn new(
        record: &'a mut PoolRecord,
        me: WorkerId,
        mine: Mine,
        here: &Here,
        regime: Regime,
    ) -> Self {
        let mut classes = [0; MAX_CLASSES];
        let mut first: Option<u8> = None;
        for row in record.rows().iter().filter(|row| row.worker != me) {
            for (sum, open) in classes.iter_mut().zip(row.classes) {
                *sum += u64::from(open);
            }
            first = match (first, row.first) {
                (Some(first), Some(other)) => Some(first.min(other)),
                (first, other) => first.or(other),
            };
        }
        let mut own = [0; MAX_SEATS];
        let mut opens = record.opens(Some(me));
        for (caller, open) in here.callers() {
            if let Some(seat) = record.crowd.seat(caller) {
                add(&mut own, seat, open);
                add(&mut opens, seat, open);
            }
        }
        let row = record.row(me);
        Self {
            others: record.others(me),
            leased: row.map_or(0, Row::held),
            booking: row.map(|row| row.tokens),
            record,
            classes,
            first,
            mine,
            own,
            opens,
            regime,
        }
    }

    /// How many are open here, or leased by others.
    fn held(&self) -> u64 {
        self.others.held + u64::from(self.mine.open)
    }

    /// Whether others have idle slots.
    pub fn others_are_idle(&self) -> bool {
        self.others.held > self.others.open
    }

    /// How many workers there are.
    pub fn workers(&self, me: WorkerId) -> u64 {
        let others = self.record.rows().iter().filter(|row| row.worker != me);
        others.count() as u64 + 1
    }

    /// How many idle slots a worker takes, at most `batch`; it may keep twice as many. So of those
    /// that nobody could be refused for, at most a half is idle in all workers together.
    ///
    /// None in a surge, while a lower limit is in force, while slots are scarce, and while anybody
    /// waits or lacked one.
    pub fn idle(&self, terms: &Terms, batch: u32, me: WorkerId) -> u32 {
        let Some(limit) = terms.limits.inflight else {
            return 0;
        };
        let somebody_waits = self.others.waiting > 0 || self.others.short > 0;
        if somebody_waits
            || !self.regime.is_calm()
            || !is_leased(terms)
            || is_scarce(limit, self.used())
        {
            return 0;
        }
        let limit = u64::from(limit.get());
        let reserved: u64 = terms.reserved.iter().map(|&slots| u64::from(slots)).sum();
        let ghosts = self.others.ghosts + u64::from(self.mine.ghosts());
        let taken = self.held() + ghosts + reserved;
        let Some(free) = limit.checked_sub(taken).filter(|free| *free > 0) else {
            return 0;
        };
        let common = limit.saturating_sub(reserved);
        let counted = self.others.open + u64::from(self.mine.open);
        let held_back = self
            .record
            .crowd
            .most_held_back(&self.opens, counted, common);
        let share = free.saturating_sub(held_back) / (4 * self.workers(me));
        u32::try_from(share).unwrap_or(u32::MAX).min(batch)
    }

    /// How many slots this worker has from now on: those that are open, and idle ones.
    ///
    /// Of those it has, up to `2 · idle` stay idle; when there are less than `idle`, it takes more.
    pub fn lease(&self, idle: u32) -> u32 {
        let has = self.leased.saturating_sub(self.mine.open);
        self.mine.open + has.clamp(idle, 2 * idle)
    }

    /// Says which tokens were used, and gives the others back; what there is without them.
    pub fn settle(&mut self, tokens: &Tokens) -> Tokens {
        tokens.settle(self.booking, &mut self.record.arrivals)
    }

    /// Takes tokens for arrivals to come, of those that are free: at most `batch`, and while they
    /// are few, only a part.
    pub fn draw(
        &mut self,
        tokens: &mut Tokens,
        limit: NonZeroU32,
        batch: u32,
        me: WorkerId,
        now: Timestamp,
    ) {
        let limit = u64::from(limit.get());
        let free = limit.saturating_sub(self.record.arrivals.at_most(now));
        let most = if 2 * free < limit {
            SCARCE_PART * free / self.workers(me)
        } else {
            free
        };
        let most = u32::try_from(most.min(free)).unwrap_or(u32::MAX);
        tokens.draw(now, batch.min(most), &mut self.record.arrivals);
    }

    /// When the next token is free.
    pub fn next_token(&self) -> Option<Timestamp> {
        self.record.arrivals.next_free()
    }

    /// Keeps the tokens that are left.
    pub fn keep(&mut self, tokens: &mut Tokens, now: Timestamp) {
        if let Some(Booking { bucket, .. }) = self.booking {
            tokens.keep(now, &mut self.record.arrivals, bucket);
        }
    }

    /// Gives everybody who has something open here a seat, if there is any; whether one was new.
    pub fn seat(&mut self, here: &Here) -> bool {
        let mut new = false;
        for (caller, open) in here.callers() {
            if self.record.crowd.seat(caller).is_none()
                && let Some(seat) = self.record.crowd.take_seat(caller, &self.opens)
            {
                add(&mut self.own, seat, open);
                add(&mut self.opens, seat, open);
                new = true;
            }
        }
        new
    }

    /// Whether slots are scarce.
    pub fn is_tight(&self, terms: &Terms) -> bool {
        let limit = terms.limits.inflight;
        limit.is_some_and(|limit| is_scarce(limit, self.used()))
    }

    /// How many are open, ghosts as well.
    fn used(&self) -> u64 {
        self.others.open
            + self.others.ghosts
            + u64::from(self.mine.open)
            + u64::from(self.mine.ghosts())
    }

    /// The first thing that one more lacks.
    ///
    /// Ghosts are open in truth, so enforce counts them; in shadow only what enforce would have
    /// admitted counts.
    pub fn lacks(&mut self, waiter: &Waiter, now: Timestamp) -> Option<Reason> {
        let limits = &waiter.terms.limits;
        let at = |limit: Option<NonZeroU32>, used: u64| {
            limit.is_some_and(|limit| used >= u64::from(limit.get()))
        };
        let connecting = self.others.connecting + u64::from(self.mine.connecting);
        if let Some(limit) = limits.inflight
            && let Some(reason) = self.lacks_slot(waiter, limit)
        {
            Some(reason)
        } else if at(limits.connecting, connecting) {
            Some(Reason::ConnectingLimit)
        } else if at(limits.arrivals_per_s, self.record.arrivals.at_most(now)) {
            Some(Reason::ArrivalLimit)
        } else {
            None
        }
    }

    fn lacks_slot(&self, waiter: &Waiter, limit: NonZeroU32) -> Option<Reason> {
        let full = u64::from(limit.get());
        let ghosts = if waiter.terms.shadow {
            0
        } else {
            self.others.ghosts + u64::from(self.mine.ghosts())
        };
        let counted = self.others.open + u64::from(self.mine.open);
        let open = self.held() + ghosts;
        // What is reserved for the classes that do not have it all.
        let (mut has_own, mut reserved) = (false, 0);
        let classes = self.classes.iter().zip(self.mine.classes).enumerate();
        for ((index, (others, mine)), slots) in classes.zip(waiter.terms.reserved) {
            let left = u64::from(slots).saturating_sub(others + u64::from(mine));
            if index == usize::from(waiter.class.index) {
                has_own = left > 0;
            } else {
                reserved += left;
            }
        }
        if has_own {
            return (open >= full).then_some(Reason::InflightLimit);
        }
        let limit = u64::from(in_force(limit.get(), self.regime.part));
        let common = limit.saturating_sub(reserved);
        // First, so that a hot caller is known as one when there is nothing left for anybody, too.
        let held_back = self.held_back(waiter, counted, common);
        let overtakes = self
            .first
            .is_some_and(|first| first < waiter.class.priority);
        if held_back > 0 && open + held_back >= common {
            Some(Reason::HotCaller)
        } else if open + reserved >= full || overtakes {
            Some(Reason::InflightLimit)
        } else if open >= common {
            Some(Reason::AdaptiveLimit)
        } else {
            None
        }
    }

    /// How many slots are held back from one more of its caller.
    fn held_back(&self, waiter: &Waiter, counted: u64, limit: u64) -> u64 {
        let Some(Counted { caller, .. }) = waiter.counted else {
            return 0;
        };
        let crowd = &self.record.crowd;
        let seat = crowd.seat(caller);
        let claim = match crowd.is_entitled(seat, &self.opens, counted) {
            true if self.regime.surge => Claim::InSurge,
            true => Claim::Normal,
            false => Claim::None,
        };
        crowd.held_back(seat, &self.opens, counted, limit, claim)
    }

    /// Counts one more.
    pub fn book(&mut self, waiter: &Waiter, now: Timestamp) {
        let _ = self.mine.book(waiter);
        if waiter.terms.limits.arrivals_per_s.is_some() {
            self.record.arrivals.add(now, 1);
        }
        if let Some(counted) = waiter.counted
            && let Some(seat) = self.record.crowd.take_seat(counted.caller, &self.opens)
        {
            add(&mut self.own, seat, u32::from(counted.weight));
            add(&mut self.opens, seat, u32::from(counted.weight));
        }
    }

    /// This worker's row, with what is booked here.
    pub fn row(&self, row: Row, leased: u32, tokens: &Tokens) -> Row {
        let own = self.own.iter().enumerate();
        Row {
            open: self.mine.open,
            leased,
            tokens: tokens.booked,
            ghosts: self.mine.ghosts(),
            connecting: self.mine.connecting,
            classes: self.mine.classes,
            // At most MAX_SEATS of them exist.
            seats: own
                .filter(|(_, open)| **open > 0)
                .map(|(seat, open)| (seat as u8, *open))
                .collect(),
            ..row
        }
    }
}

fn add(opens: &mut Opens, seat: u8, more: u32) {
    if let Some(open) = opens.get_mut(usize::from(seat)) {
        *open = open.saturating_add(more);
    }
}
