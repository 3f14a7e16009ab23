//! The refusals of hot callers that are kept for a while, so that they can't hammer.

use alloc::collections::BTreeSet;
use core::time::Duration;

use crate::engine::{StreamId, Timestamp};

/// The connections and requests that will be refused, the next one first. They cost no slot.
///
/// A TCP client that leaves meanwhile is not seen to, since nothing is read from it.
#[derive(Debug, Default)]
pub struct Slow(BTreeSet<(Timestamp, StreamId)>);

/// By a clock that stepped back nobody is kept for longer than the longest time that is possible.
const MOST: Duration = Duration::from_secs(90);

impl Slow {
    /// Keeps one for `span` and up to half of it more or less; until when, if there was room among
    /// `max`. `random` is any number.
    pub fn keep(
        &mut self,
        id: StreamId,
        span: Duration,
        max: u32,
        random: u32,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.0.len() >= max as usize {
            return None;
        }
        // From a half to one and a half.
        let span =
            span / 2 + Duration::from_nanos(((span.as_nanos() * u128::from(random)) >> 32) as u64);
        let until = now.after(span);
        self.0.insert((until, id));
        Some(until)
    }

    /// One that was kept until then is gone.
    pub fn forget(&mut self, id: StreamId, until: Timestamp) {
        self.0.remove(&(until, id));
    }

    /// Takes out those whose time is up.
    pub fn due(&mut self, now: Timestamp, mut refuse: impl FnMut(StreamId)) {
        while let Some(&(at, id)) = self.0.first()
            && (at <= now || at > now.after(MOST))
        {
            self.0.pop_first();
            refuse(id);
        }
    }
}
