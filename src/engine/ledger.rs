//! Whether one more fits, by what all workers have.

use core::num::NonZeroU32;

use super::{
    crowd::{Claim, Here, MAX_SEATS, Opens},
    decision::{Counted, MAX_CLASSES, Reason},
    gate::Mine,
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
        Self {
            others: record.others(me),
            record,
            classes,
            first,
            mine,
            own,
            opens,
            regime,
        }
    }

    /// How many are open, ghosts as well.
    pub fn used(&self) -> u64 {
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
        let open = counted + ghosts;
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
    pub fn row(&self, row: Row) -> Row {
        let own = self.own.iter().enumerate();
        Row {
            open: self.mine.open,
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
