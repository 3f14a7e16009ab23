//! The arrivals that wait for a slot.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::{
    decision::{Limits, Order},
    time::Timestamp,
};

/// Names one connection or request, as the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// One arrival that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub id: StreamId,
    pub since: Timestamp,
    pub max_wait: Duration,
    pub order: Order,
    /// The limits that it waits for.
    pub limits: Limits,
    /// Its rule is in shadow mode.
    pub shadow: bool,
    /// It went on already without a slot, and waits only on paper.
    pub ghost: bool,
}

/// The arrivals of one rule that wait in one worker, from the oldest to the newest.
///
/// Bounded by the caller, with `hold.max_waiting`; as many again may have been displaced since the
/// last tick. Cost: constant at the ends, one pass to forget one that left or to time out.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    queue: VecDeque<Waiter>,
    /// Gave their place to a newer one, and are told so at the next tick.
    displaced: VecDeque<Waiter>,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.queue.push_back(waiter);
    }

    /// The one that is served next.
    ///
    /// The order is that of the newest: when an update changes it, the new one holds for all.
    fn next_index(&self) -> Option<usize> {
        match self.queue.back()?.order {
            Order::NewestFirst => Some(self.queue.len() - 1),
            Order::OldestFirst => Some(0),
        }
    }

    /// The waiters in the order in which they are served.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Waiter> + Clone {
        let newest_first = self.next_index().is_some_and(|index| index > 0);
        let (mut ahead, mut behind) = (self.queue.iter(), self.queue.iter().rev());
        core::iter::from_fn(move || {
            if newest_first {
                behind.next()
            } else {
                ahead.next()
            }
        })
    }

    pub(crate) fn pop_next(&mut self) -> Option<Waiter> {
        self.next_index().and_then(|index| self.queue.remove(index))
    }

    /// Takes the oldest one's place away; whether that was possible with `max` displaced at most.
    pub(crate) fn displace_oldest(&mut self, max: usize) -> bool {
        if self.displaced.len() >= max {
            return false;
        }
        let oldest = self.queue.pop_front();
        self.displaced.extend(oldest);
        oldest.is_some()
    }

    /// The next one that was displaced, and has not been told yet.
    pub(crate) fn pop_displaced(&mut self) -> Option<Waiter> {
        self.displaced.pop_front()
    }

    /// Whether a tick has anything to do here.
    pub(crate) fn needs_tick(&self) -> bool {
        !(self.queue.is_empty() && self.displaced.is_empty())
    }

    /// Forgets one that left; whether it was there.
    pub(crate) fn remove(&mut self, id: StreamId) -> bool {
        [&mut self.queue, &mut self.displaced]
            .into_iter()
            .any(|queue| {
                let found = queue.iter().rposition(|waiter| waiter.id == id);
                found.and_then(|index| queue.remove(index)).is_some()
            })
    }

    /// Takes out everyone whose time is up, oldest first.
    ///
    /// A clock that stepped back before one's arrival starts its wait anew, so that nobody waits
    /// longer than `max_wait` by either clock.
    pub(crate) fn expire(&mut self, now: Timestamp, mut expired: impl FnMut(Waiter)) {
        self.queue.retain_mut(|waiter| {
            waiter.since = waiter.since.min(now);
            let keep = now.since(waiter.since) < waiter.max_wait;
            if !keep {
                expired(*waiter);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn waiter(id: u32, order: Order) -> Waiter {
        Waiter {
            id: StreamId(id),
            since: Timestamp::from_millis(u64::from(id)),
            max_wait: Duration::from_millis(100),
            order,
            limits: Limits::default(),
            shadow: false,
            ghost: false,
        }
    }

    fn filled(order: Order) -> Waiting {
        let mut waiting = Waiting::default();
        (1..=3).for_each(|id| waiting.push(waiter(id, order)));
        waiting
    }

    #[test]
    fn the_newest_or_the_oldest_is_served_first() {
        for (order, expected) in [
            (Order::NewestFirst, [3, 2, 1]),
            (Order::OldestFirst, [1, 2, 3]),
        ] {
            let mut waiting = filled(order);
            let planned: Vec<_> = waiting.in_order().map(|w| w.id.0).collect();
            let served: Vec<_> =
                core::iter::from_fn(|| waiting.pop_next().map(|w| w.id.0)).collect();
            assert_eq!(planned, expected);
            assert_eq!(served, expected);
        }
    }

    #[test]
    fn one_that_left_is_forgotten_once() {
        let mut waiting = filled(Order::NewestFirst);
        assert!(waiting.remove(StreamId(2)));
        assert!(!waiting.remove(StreamId(2)));
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn one_that_was_displaced_is_told_once_and_forgotten_when_it_leaves() {
        let mut waiting = filled(Order::NewestFirst);
        assert!(waiting.displace_oldest(2) && waiting.displace_oldest(2));
        assert!(!waiting.displace_oldest(2), "at most two between ticks");
        assert!(waiting.remove(StreamId(1)));
        assert_eq!(waiting.pop_displaced().map(|w| w.id.0), Some(2));
        assert!(waiting.pop_displaced().is_none() && waiting.len() == 1);
    }

    #[test]
    fn who_waited_long_enough_is_taken_out() {
        let mut waiting = filled(Order::NewestFirst);
        let mut out = Vec::new();
        waiting.expire(Timestamp::from_millis(102), |w| out.push(w.id.0));
        assert_eq!(out, [1, 2]);
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_lengthen_a_wait() {
        let mut waiting = Waiting::default();
        waiting.push(Waiter {
            since: Timestamp::from_millis(3_600_000),
            ..waiter(1, Order::NewestFirst)
        });
        waiting.expire(Timestamp::from_millis(0), |_| unreachable!());
        let mut out = 0;
        waiting.expire(Timestamp::from_millis(100), |_| out += 1);
        assert_eq!(out, 1);
    }
}
