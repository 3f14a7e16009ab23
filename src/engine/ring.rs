//! The last 32 s of arrivals, summed over the detector's windows.

use alloc::{boxed::Box, vec::Vec};

use super::{
    baseline::LAP_S,
    bytes::{MemoryError, Put, Reader},
};

/// How many laps are remembered: 32 s.
pub(crate) const LAPS: usize = 320;
/// The windows, in laps: 0.5, 1, 2, 8, 16 and 32 s.
pub(crate) const WINDOWS: [usize; 6] = [5, 10, 20, 80, 160, LAPS];
/// The place of the 2-s window in [`WINDOWS`].
const TWO: usize = 2;

/// Arrivals of the last 320 laps, and their sums over [`WINDOWS`].
///
/// Sums are kept up to date with whole numbers, so they never stray from the laps. Cost: one step a
/// window and lap. Memory: 320 counters.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    laps: Box<[u32; LAPS]>,
    /// The place of the oldest lap, which is overwritten next.
    oldest: usize,
    sums: [u64; WINDOWS.len()],
}

impl Ring {
    pub fn new() -> Self {
        Self {
            laps: Box::new([0; LAPS]),
            oldest: 0,
            sums: [0; WINDOWS.len()],
        }
    }

    /// The lap that is `age` laps old; 1 is the newest, 320 the oldest.
    fn lap(&self, age: usize) -> u64 {
        let place = self.oldest + LAPS - age;
        let place = if place >= LAPS { place - LAPS } else { place };
        self.laps.get(place).copied().map_or(0, u64::from)
    }

    /// Takes one lap, forgets one.
    pub fn push(&mut self, arrivals: u32) {
        let leaving = WINDOWS.map(|window| self.lap(window));
        for (sum, leaving) in self.sums.iter_mut().zip(leaving) {
            *sum = *sum - leaving + u64::from(arrivals);
        }
        if let Some(place) = self.laps.get_mut(self.oldest) {
            *place = arrivals;
        }
        self.oldest = (self.oldest + 1) % LAPS;
    }

    /// Arrivals of the last 2 s.
    pub fn two_s(&self) -> u64 {
        self.sums.get(TWO).copied().unwrap_or(0)
    }

    /// Arrivals of the last 32 s.
    pub fn longest(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// Every window: its span in s, its sum, and what of that sum is still in it after one more
    /// lap.
    pub fn windows(&self) -> [(f64, u64, u64); WINDOWS.len()] {
        let mut all = [(0.0, 0, 0); WINDOWS.len()];
        for ((entry, sum), window) in all.iter_mut().zip(self.sums).zip(WINDOWS) {
            *entry = (window as f64 * LAP_S, sum, sum - self.lap(window));
        }
        all
    }

    /// Fills every lap with `per_lap` arrivals; fractions are carried over to the next lap, so a
    /// window is less than one arrival off.
    pub fn refill(&mut self, per_lap: f64) {
        let mut told = 0.0;
        for lap in 1..=LAPS {
            let due = (per_lap * lap as f64).floor();
            self.push((due - told) as u32);
            told = due;
        }
    }

    /// The laps, from the oldest to the newest.
    fn in_order(&self) -> impl Iterator<Item = u32> {
        let (newer, older) = self.laps.split_at(self.oldest.min(LAPS));
        older.iter().chain(newer).copied()
    }

    /// Appends the laps, from the oldest to the newest.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for lap in self.in_order() {
            out.put(lap.to_le_bytes());
        }
    }

    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let mut ring = Self::new();
        for _ in 0..LAPS {
            ring.push(bytes.u32()?);
        }
        Ok(ring)
    }
}

impl PartialEq for Ring {
    /// Where in memory the oldest lap lies makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.in_order().eq(other.in_order())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refill_is_less_than_one_arrival_off_in_every_window() {
        let mut ring = Ring::new();
        ring.push(12_345);
        ring.refill(0.37);
        for (span, sum, _) in ring.windows() {
            assert!((sum as f64 - 3.7 * span).abs() <= 1.0, "{span}: {sum}");
        }
    }

    proptest! {
        #[test]
        fn the_sums_are_those_of_a_naive_list(
            laps in prop::collection::vec(prop_oneof![0_u32..9, any::<u32>()], 0..800),
        ) {
            let mut ring = Ring::new();
            for lap in &laps {
                ring.push(*lap);
            }
            for ((_, sum, kept), window) in ring.windows().into_iter().zip(WINDOWS) {
                let last = |count: usize| -> u64 {
                    laps.iter().rev().take(count).map(|lap| u64::from(*lap)).sum()
                };
                prop_assert_eq!(sum, last(window));
                prop_assert_eq!(kept, last(window - 1));
            }
        }
    }
}
