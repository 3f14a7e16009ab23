//! From the host's ticks to laps of 100 ms.

use alloc::vec::Vec;

use super::{
    bytes::{MemoryError, Put, Reader},
    ring::LAPS,
    time::Timestamp,
};

/// One lap, in ms.
const LAP_MS: u64 = 100;
/// A clock that is this many laps back stands still; one that is further back is a new clock.
const STILL: u64 = 10;

/// The running lap: laps are cut by the clock, at whole tenths of a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Laps {
    /// The number of the running lap since the epoch; none before the first tick.
    running: Option<u64>,
    /// Arrivals that ticks have brought within it.
    pending: u32,
}

impl Laps {
    /// Arrivals that ticks have brought within the running lap.
    pub const fn pending(&self) -> u32 {
        self.pending
    }

    /// Whether a tick at `now` would close one lap at most.
    pub fn is_current(&self, now: Timestamp) -> bool {
        let lap = now.as_millis() / LAP_MS;
        self.running.is_none_or(|running| lap <= running + 1)
    }

    /// The laps that are over at `now`, with their arrivals.
    ///
    /// None within the running lap. Several when the tick is late, with the arrivals in equal parts;
    /// at most 320, and then with their share of the arrivals only.
    pub fn pass(&mut self, arrivals: u32, now: Timestamp) -> impl Iterator<Item = u32> + use<> {
        let lap = now.as_millis() / LAP_MS;
        let passed = match self.running {
            None => 1,
            Some(running) if lap >= running => lap - running,
            Some(running) if running - lap <= STILL => 0,
            Some(_) => 1,
        };
        let total = self.pending.saturating_add(arrivals);
        if passed == 0 {
            self.pending = total;
        } else {
            self.running = Some(lap);
            self.pending = 0;
        }
        let kept = passed.min(LAPS as u64);
        // Both fit: a share of a u32, and at most 320 of it.
        let share = u128::from(total) * u128::from(kept) / u128::from(passed.max(1));
        let share = share as u64;
        (0..kept).map(move |lap| (share * (lap + 1) / kept - share * lap / kept) as u32)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.running.is_some()));
        out.put(self.running.unwrap_or(0).to_le_bytes());
        out.put(self.pending.to_le_bytes());
    }

    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let known = bytes.flag()?;
        let running = bytes.u64()?;
        if running > u64::MAX / 1_000_000 / LAP_MS {
            return Err(MemoryError::Value);
        }
        Ok(Self {
            running: known.then_some(running),
            pending: bytes.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(laps: &mut Laps, arrivals: u32, ms: u64) -> Vec<u32> {
        laps.pass(arrivals, Timestamp::from_millis(ms)).collect()
    }

    #[test]
    fn a_tick_within_the_lap_waits_and_a_late_one_is_spread() {
        let mut laps = Laps::default();
        assert_eq!(pass(&mut laps, 5, 1_000), [5]);
        assert_eq!(pass(&mut laps, 3, 1_090), [0; 0]);
        assert_eq!(laps.pending(), 3);
        assert_eq!(pass(&mut laps, 4, 1_310), [2, 2, 3]);
        assert_eq!(laps.pending(), 0);
    }

    #[test]
    fn a_year_of_silence_costs_320_laps_at_the_mean_rate_of_the_year() {
        let mut laps = Laps::default();
        pass(&mut laps, 0, 0);
        let year = pass(&mut laps, 1_000_000, 365 * 86_400_000);
        assert_eq!(year.len(), 320);
        assert_eq!(year.iter().sum::<u32>(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_a_little_stands_still_and_far_costs_one_lap() {
        let mut laps = Laps::default();
        pass(&mut laps, 0, 3_600_000);
        assert_eq!(pass(&mut laps, 7, 3_599_500), [0; 0]);
        assert_eq!(pass(&mut laps, 1, 3_600_100), [8]);
        assert_eq!(pass(&mut laps, 2, 5_000), [2]);
        assert_eq!(pass(&mut laps, 3, 5_100), [3]);
    }
}
