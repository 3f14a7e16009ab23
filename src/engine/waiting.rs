//! The arrivals that wait for a slot.

use alloc::{collections::VecDeque, vec::Vec};
use core::{num::NonZeroU32, time::Duration};

use super::{
    decision::{Class, Counted, Order, Reason, Terms},
    time::Timestamp,
};

/// Names one connection or request, as the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// One arrival that waits, or would if it had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub id: StreamId,
    pub since: Timestamp,
    pub terms: Terms,
    pub class: Class,
    pub counted: Option<Counted>,
    /// It went on already without a slot, and waits only on paper.
    pub ghost: bool,
    /// It has ended since, and took so long; on paper it waits on, and then takes a slot for as long.
    pub took: Option<Duration>,
    /// Why it has no slot, as of when it was asked for last.
    pub lacks: Option<Reason>,
}

impl Waiter {
    fn max_wait(&self) -> Duration {
        self.terms.hold.map_or(Duration::ZERO, |hold| hold.max_wait)
    }

    fn order(&self) -> Order {
        self.terms.hold.map_or(Order::default(), |hold| hold.order)
    }

    /// Whether its caller has all that is normal for it.
    pub fn is_hot(&self) -> bool {
        self.lacks == Some(Reason::HotCaller)
    }

    /// Who is served first: the lowest. A hot caller comes after everybody of its priority.
    fn rank(&self) -> (u8, bool) {
        (self.class.priority, self.is_hot())
    }

    /// Why it is refused when it has waited long enough.
    pub fn in_vain(&self, otherwise: Reason) -> Reason {
        match self.lacks {
            Some(reason @ (Reason::HotCaller | Reason::AdaptiveLimit)) => reason,
            _ => otherwise,
        }
    }
}

/// The arrivals of one rule that wait in one worker, from the oldest to the newest.
///
/// Served by priority, within one those first whose caller is not hot, and then the newest or the
/// oldest first.
///
/// Bounded by the caller, with `hold.max_waiting`; as many again may have been displaced since the
/// last tick. Cost: constant at the end, one pass to forget one that left, to time out, or to
/// displace, and one for each rank that is served.
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

    /// All wait by this inflight limit from now on.
    pub(crate) fn set_limit(&mut self, inflight: Option<NonZeroU32>) {
        for waiter in &mut self.queue {
            waiter.terms.limits.inflight = inflight;
        }
    }

    /// The waiters in the order of their arrival, or against it.
    ///
    /// The order is that of the newest: when an update changes it, the new one holds for all.
    fn in_order(&self) -> impl Iterator<Item = &Waiter> + Clone {
        let newest_first = self
            .queue
            .back()
            .is_some_and(|newest| newest.order() == Order::NewestFirst);
        let (mut ahead, mut behind) = (self.queue.iter(), self.queue.iter().rev());
        core::iter::from_fn(move || {
            if newest_first {
                behind.next()
            } else {
                ahead.next()
            }
        })
    }

    /// Those that are served next, at most `max`.
    pub(crate) fn next(&self, max: usize) -> Vec<Waiter> {
        let mut next = Vec::new();
        let mut last = None;
        while next.len() < max {
            let ranks = self.queue.iter().map(Waiter::rank);
            let Some(rank) = ranks.filter(|rank| last < Some(*rank)).min() else {
                break;
            };
            let more = self.in_order().filter(|waiter| waiter.rank() == rank);
            let room = max - next.len();
            next.extend(more.take(room));
            last = Some(rank);
        }
        next
    }

    /// Takes out those of `asked` that lack nothing any more, and remembers what the others lack.
    pub(crate) fn settle(&mut self, asked: &[Waiter]) {
        let mut asked: Vec<(StreamId, Option<Reason>)> = asked
            .iter()
            .map(|waiter| (waiter.id, waiter.lacks))
            .collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        self.queue.retain_mut(|waiter| {
            let found = asked.binary_search_by_key(&waiter.id, |(id, _)| *id);
            let Some((_, lacks)) = found.ok().and_then(|index| asked.get(index)) else {
                return true;
            };
            waiter.lacks = *lacks;
            lacks.is_some()
        });
    }

    /// The first priority of those that wait for nothing but a free slot.
    pub(crate) fn first_priority(&self) -> Option<u8> {
        let waiting = self.queue.iter().filter(|waiter| {
            matches!(
                waiter.lacks,
                Some(Reason::InflightLimit | Reason::AdaptiveLimit)
            )
        });
        waiting.map(|waiter| waiter.class.priority).min()
    }

    /// Whether one of this class would overtake somebody who waits for a free slot.
    pub(crate) fn must_queue(&self, newcomer: &Waiter) -> bool {
        match self.first_priority() {
            None => false,
            Some(first) => {
                let oldest_first = newcomer.order() == Order::OldestFirst;
                first < newcomer.class.priority || oldest_first && first == newcomer.class.priority
            }
        }
    }

    /// Takes the place of the one that would be served last, if `newcomer` is served before it;
    /// whether that was possible with `max` displaced at most.
    pub(crate) fn displace(&mut self, newcomer: &Waiter, max: usize) -> bool {
        let last = self.queue.iter().map(Waiter::rank).max();
        let Some(rank) = last.filter(|_| self.displaced.len() < max) else {
            return false;
        };
        let newest_first = newcomer.order() == Order::NewestFirst;
        if newcomer.rank() > rank || newcomer.rank() == rank && !newest_first {
            return false;
        }
        let oldest = self.queue.iter().position(|waiter| waiter.rank() == rank);
        let gone = oldest.and_then(|index| self.queue.remove(index));
        self.displaced.extend(gone);
        gone.is_some()
    }

    /// The next one that was displaced, and has not been told yet.
    pub(crate) fn pop_displaced(&mut self) -> Option<Waiter> {
        self.displaced.pop_front()
    }

    /// Whether a tick has anything to do here.
    pub(crate) fn needs_tick(&self) -> bool {
        !(self.queue.is_empty() && self.displaced.is_empty())
    }

    /// One that waits on paper has ended in truth.
    pub(crate) fn end(&mut self, id: StreamId, now: Timestamp) {
        let waiters = self.queue.iter_mut().chain(&mut self.displaced);
        for waiter in waiters.filter(|waiter| waiter.id == id) {
            waiter.took = Some(now.since(waiter.since));
        }
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
            let keep = now.since(waiter.since) < waiter.max_wait();
            if !keep {
                expired(*waiter);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::engine::decision::Hold;

    fn waiter(id: u32, order: Order) -> Waiter {
        let hold = Hold {
            max_wait: Duration::from_millis(100),
            max_waiting: NonZeroU32::MIN,
            order,
        };
        Waiter {
            id: StreamId(id),
            since: Timestamp::from_millis(u64::from(id)),
            terms: Terms {
                hold: Some(hold),
                ..Terms::default()
            },
            class: Class::default(),
            counted: None,
            ghost: false,
            took: None,
            lacks: Some(Reason::InflightLimit),
        }
    }

    fn ranked(id: u32, priority: u8, lacks: Reason) -> Waiter {
        Waiter {
            class: Class { index: 0, priority },
            lacks: Some(lacks),
            ..waiter(id, Order::NewestFirst)
        }
    }

    fn filled(order: Order) -> Waiting {
        let mut waiting = Waiting::default();
        (1..=3).for_each(|id| waiting.push(waiter(id, order)));
        waiting
    }

    fn ids(waiters: &[Waiter]) -> Vec<u32> {
        waiters.iter().map(|waiter| waiter.id.0).collect()
    }

    #[test]
    fn the_newest_or_the_oldest_is_served_first() {
        for (order, expected) in [
            (Order::NewestFirst, [3, 2, 1]),
            (Order::OldestFirst, [1, 2, 3]),
        ] {
            let waiting = filled(order);
            assert_eq!(ids(&waiting.next(9)), expected);
            assert_eq!(ids(&waiting.next(2)), expected[..2]);
        }
    }

    #[test]
    fn priority_comes_first_and_hot_callers_last_of_theirs() {
        let mut waiting = Waiting::default();
        for (id, priority, lacks) in [
            (1, 1, Reason::InflightLimit),
            (2, 0, Reason::HotCaller),
            (3, 1, Reason::HotCaller),
            (4, 0, Reason::InflightLimit),
            (5, 1, Reason::InflightLimit),
        ] {
            waiting.push(ranked(id, priority, lacks));
        }
        assert_eq!(ids(&waiting.next(9)), [4, 2, 5, 1, 3]);
        assert_eq!(waiting.first_priority(), Some(0));
    }

    #[test]
    fn a_full_queue_loses_the_one_that_would_be_served_last() {
        let mut waiting = Waiting::default();
        waiting.push(ranked(1, 1, Reason::InflightLimit));
        waiting.push(ranked(2, 1, Reason::HotCaller));
        assert!(!waiting.displace(&ranked(3, 2, Reason::InflightLimit), 9));
        assert!(waiting.displace(&ranked(3, 1, Reason::InflightLimit), 9));
        assert_eq!(waiting.pop_displaced().map(|w| w.id.0), Some(2));
        assert!(!waiting.displace(&ranked(4, 1, Reason::HotCaller), 9));
    }

    #[test]
    fn who_got_a_slot_leaves_the_queue_and_the_others_know_what_they_lack() {
        let mut waiting = filled(Order::NewestFirst);
        let mut asked = waiting.next(2);
        asked[0].lacks = None;
        asked[1].lacks = Some(Reason::HotCaller);
        waiting.settle(&asked);
        let left = waiting.next(9);
        assert_eq!(ids(&left), [1, 2]);
        assert!(left[1].is_hot() && !left[0].is_hot());
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
        let newest = waiter(4, Order::NewestFirst);
        assert!(waiting.displace(&newest, 2) && waiting.displace(&newest, 2));
        assert!(!waiting.displace(&newest, 2), "at most two between ticks");
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
