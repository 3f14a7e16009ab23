//! The refusals of hot callers on TCP that are kept for a while, so that they can't hammer.

use alloc::collections::BinaryHeap;
use core::{cmp::Reverse, time::Duration};

use crate::engine::{StreamId, Timestamp};

/// The connections that will be refused, the next one first. They cost no slot.
///
/// A client that leaves meanwhile is not seen to, since nothing is read from it; an entry of one
/// that is gone for another reason stays until its time.
#[derive(Debug, Default)]
pub struct Slow(BinaryHeap<Reverse<(Timestamp, StreamId)>>);

/// By a clock that stepped back nobody is kept for longer than the longest time that is possible.
const MOST: Duration = Duration::from_secs(90);

impl Slow {
    /// Keeps one for `span` and up to half of it more or less; whether there was room among `max`.
    /// `random` is any number.
    pub fn keep(
        &mut self,
        id: StreamId,
        span: Duration,
        max: u32,
        random: u32,
        now: Timestamp,
    ) -> bool {
        if self.0.len() >= max as usize {
            return false;
        }
        // From a half to one and a half.
        let span =
            span / 2 + Duration::from_nanos(((span.as_nanos() * u128::from(random)) >> 32) as u64);
        self.0.push(Reverse((now.after(span), id)));
        true
    }

    /// Takes out those whose time is up.
    pub fn due(&mut self, now: Timestamp, mut refuse: impl FnMut(StreamId)) {
        while let Some(&Reverse((at, id))) = self.0.peek()
            && (at <= now || at > now.after(MOST))
        {
            self.0.pop();
            refuse(id);
        }
    }
}
