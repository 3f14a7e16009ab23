//! The faults that are to be told in the log.

use super::host::{self, Level};
use crate::{
    engine::{Fault, Timestamp},
    event::{Event, Rfc3339},
};

/// A worker tells of a rule's faults no more often.
const EVERY_MS: u64 = 10_000;

/// The faults of a rule that this worker has not told yet, by their kinds.
#[derive(Debug, Default)]
pub struct Faults {
    untold: [u32; Fault::ALL.len()],
    told: Timestamp,
}

impl Faults {
    /// Something went wrong.
    pub fn add(&mut self, fault: Fault, times: u32) {
        if let Some(untold) = self.untold.get_mut(fault.index()) {
            *untold = untold.saturating_add(times);
        }
    }

    /// Tells one kind, when it is time and nothing else is being said of the rule; the next one the
    /// next time.
    pub fn tell(&mut self, rule: &str, now: Timestamp, may_say: impl FnOnce() -> bool) {
        if now.as_millis().abs_diff(self.told.as_millis()) < EVERY_MS {
            return;
        }
        let mut kinds = self.untold.iter_mut().zip(Fault::ALL);
        if let Some((untold, kind)) = kinds.find(|(untold, _)| **untold > 0)
            && may_say()
        {
            self.told = now;
            let event = Event::Fault {
                rule,
                at: Rfc3339(now),
                kind: kind.label(),
                count: core::mem::take(untold),
            };
            host::log(Level::Warn, &event.line());
        }
    }
}
