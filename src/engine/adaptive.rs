//! The inflight limit of an upstream that is in distress.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    bytes::{MemoryError, Put, Reader},
    time::Timestamp,
};

/// A limit is never lowered below this part of what is configured.
const FLOOR: f32 = 0.1;
/// What a lowering leaves of what is open.
const LOWERED: f32 = 0.8;
/// How much of the configured limit a step up is.
const STEP: f32 = 0.05;
/// Lowerings are this far apart at least, and steps up.
const LOWER_EVERY: Duration = Duration::from_secs(1);
const RAISE_EVERY: Duration = Duration::from_secs(2);
/// The first step up comes so long after the last lowering: at first, and at most.
const REST: Duration = Duration::from_secs(5);
const REST_MOST: Duration = Duration::from_secs(60);
/// A lowering within this time of a step up is that step's fault.
const BLAME: Duration = Duration::from_secs(10);

/// What the limit did in a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Down,
    Up,
}

/// The part of the configured inflight limit that is in force, from 0.1 to 1.
///
/// While the upstream is in distress, has refused or kept silent in this lap, and at least half of
/// the limit is open, the limit becomes 0.8 of what is open, once a second at most. When there was
/// no distress for 5 s it climbs back by a twentieth of the configured limit every 2 s, up to that
/// limit and never beyond it. If the upstream is in trouble again within 10 s of a step, the next
/// rest is twice as long, up to a minute, so that a limit that is too high is tried ever more
/// rarely.
///
/// An upstream that refuses while little is open is not overloaded by what comes through here, and
/// a lower limit would not help it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Adaptive {
    part: f32,
    rest: Duration,
    lowered: Timestamp,
    raised: Timestamp,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            part: 1.0,
            rest: REST,
            lowered: Timestamp::ZERO,
            raised: Timestamp::ZERO,
        }
    }
}

impl Adaptive {
    /// The part of the limit that is in force.
    pub const fn part(self) -> f32 {
        self.part
    }

    /// Takes one lap: whether the upstream is in distress, and did badly in this very lap.
    pub fn lap(
        &mut self,
        distressed: bool,
        bad: bool,
        open: u64,
        limit: u32,
        now: Timestamp,
    ) -> Option<Moved> {
        // A clock that stepped back far is not waited for.
        self.lowered = self.lowered.min(now);
        self.raised = self.raised.min(now);
        let limit = limit.max(1) as f32;
        let used = open as f32 / limit;
        if distressed {
            let due = now.since(self.lowered) >= LOWER_EVERY;
            let lower = (self.part.min(used) * LOWERED).max(FLOOR);
            if !(bad && due && used * 2.0 >= self.part && lower < self.part) {
                return None;
            }
            let blamed = self.part < 1.0 && now.since(self.raised) < BLAME;
            self.rest = if blamed {
                (self.rest * 2).min(REST_MOST)
            } else if self.part >= 1.0 && now.since(self.raised) >= REST_MOST {
                REST
            } else {
                self.rest
            };
            self.part = lower;
            self.lowered = now;
            return Some(Moved::Down);
        }
        let rested = now.since(self.lowered) >= self.rest;
        if self.part < 1.0 && rested && now.since(self.raised) >= RAISE_EVERY {
            self.part = (self.part + STEP).min(1.0);
            self.raised = now;
            return Some(Moved::Up);
        }
        None
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        out.put(self.part.to_le_bytes());
        out.put((self.rest.as_secs() as u32).to_le_bytes());
        out.put(self.lowered.as_nanos().to_le_bytes());
        out.put(self.raised.as_nanos().to_le_bytes());
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            part: bytes.f32(FLOOR..=1.0)?,
            rest: Duration::from_secs(u64::from(bytes.u32()?)).clamp(REST, REST_MOST),
            lowered: Timestamp::from_nanos(bytes.u64()?),
            raised: Timestamp::from_nanos(bytes.u64()?),
        })
    }
}

/// Whether only a part of the connects fails.
///
/// An upstream that bears less than the limit refuses some and takes others, second after second;
/// one that is down refuses them all, and only the seconds in which it goes and comes back see both.
/// A lower limit helps the first one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failing {
    /// The number of the running second since the epoch, and what it brought.
    second: u64,
    good: bool,
    failed: bool,
    /// Whether the second before brought both.
    before: bool,
}

impl Failing {
    /// Takes what a worker saw: whether some were good and some failed; whether it failed in part.
    pub fn in_part(&mut self, good: bool, failed: bool, now: Timestamp) -> bool {
        let second = now.as_millis() / 1000;
        // Another worker's clock may be a little behind; one that stepped back further begins anew.
        let behind = self.second.saturating_sub(second) == 1;
        if second != self.second && !behind {
            let next = second == self.second.wrapping_add(1);
            self.before = next && self.good && self.failed;
            (self.second, self.good, self.failed) = (second, false, false);
        }
        self.good |= good;
        self.failed |= failed;
        self.before && self.good && self.failed
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        out.put(self.second.to_le_bytes());
        out.put([self.good, self.failed, self.before].map(u8::from));
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            second: bytes.u64()?,
            good: bytes.flag()?,
            failed: bytes.flag()?,
            before: bytes.flag()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn at(tenths: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + 100 * tenths)
    }

    #[test]
    fn it_falls_to_what_the_upstream_bears_and_climbs_back_in_steps() {
        let mut adaptive = Adaptive::default();
        // An upstream that bears 40 of 100.
        for lap in 0..100 {
            let open = (adaptive.part() * 100.0) as u64;
            adaptive.lap(open > 40, open > 40, open.min(100), 100, at(lap));
        }
        assert!(adaptive.part() <= 0.4, "{}", adaptive.part());
        let mut moves = 0;
        for lap in 100..2000 {
            if adaptive.lap(false, false, 30, 100, at(lap)).is_some() {
                moves += 1;
            }
        }
        assert_eq!(adaptive.part(), 1.0);
        assert!((10..20).contains(&moves), "{moves} steps");
    }

    #[test]
    fn a_limit_that_proves_too_high_is_tried_ever_more_rarely() {
        let mut adaptive = Adaptive::default();
        let mut downs = Vec::new();
        for lap in 0..20_000 {
            let open = (adaptive.part() * 100.0) as u64;
            let bad = open > 50;
            if adaptive.lap(bad, bad, open, 100, at(lap)) == Some(Moved::Down) {
                downs.push(lap);
            }
        }
        let gaps: Vec<u64> = downs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().rev().take(3).all(|gap| *gap >= 600), "{gaps:?}");
    }

    #[test]
    fn an_upstream_that_refuses_the_few_it_gets_is_not_helped_by_a_lower_limit() {
        let mut adaptive = Adaptive::default();
        for lap in 0..100 {
            assert_eq!(adaptive.lap(true, true, 10, 100, at(lap)), None);
        }
    }

    #[test]
    fn connects_that_fail_in_part_are_told_from_an_upstream_that_is_down() {
        let run = |up: fn(u64) -> bool, bears_all: bool| {
            let mut failing = Failing::default();
            (0..200).any(|tenth| {
                let failed = !up(tenth) || !bears_all;
                failing.in_part(up(tenth), failed, at(tenth))
            })
        };
        assert!(run(|_| true, false), "it takes some and refuses others");
        let mut failing = Failing::default();
        // Every other worker is 100 ms behind.
        let seen = (0..40).filter(|tenth| failing.in_part(true, true, at(tenth - tenth % 2)));
        assert_eq!(seen.count(), 30, "all but the first second");
        assert!(!run(|_| true, true));
        assert!(!run(|_| false, true));
        assert!(!run(|tenth| tenth % 43 < 20, true), "it comes and goes");
    }

    proptest! {
        #[test]
        fn no_clock_and_no_load_leave_the_range(
            laps in prop::collection::vec(
                (any::<bool>(), any::<bool>(), any::<u64>(), any::<u32>(), any::<u64>()), 0..200,
            ),
        ) {
            let mut adaptive = Adaptive::default();
            for (distressed, bad, open, limit, now) in laps {
                adaptive.lap(distressed, bad, open, limit, Timestamp::from_nanos(now));
                prop_assert!((FLOOR..=1.0).contains(&adaptive.part()));
            }
        }
    }
}
