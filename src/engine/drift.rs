//! A slow climb: what no detector of jumps sees.

use alloc::vec::Vec;

use super::{
    baseline::{LAP_S, LAPS_PER_S, LEAST, MOST_PER_S, share},
    bytes::{MemoryError, Put, Reader},
};

/// The time constant of the slow rate, in s.
const SLOW_S: f64 = 300.0;
/// Laps until it is armed: one day, so that it has seen every hour.
const ARMED: u64 = 86_400 * LAPS_PER_S as u64;
/// Laps after which the slow rate is one.
const READY: u64 = 600 * LAPS_PER_S as u64;
/// The multiple of the remembered peak that warns, and the one below which it is over.
const WARN: f64 = 1.5;
const OVER: f64 = 1.35;
/// What the remembered peak does in a lap: ×1.5 in a day at most, halved in seven days.
const RISE: f64 = 1.0 + 0.405_465_108_108_164_4 / 86_400.0 * LAP_S;
const FADE: f64 = 1.0 - core::f64::consts::LN_2 / (7.0 * 86_400.0) * LAP_S;

/// Remembers the highest 5-minute rate and warns of one that is far above it.
///
/// Warns while `slow > 1.5 · peak` and the excess is more than `min_excess` a minute, until
/// `slow ≤ 1.35 · peak`; `slow` is an exponential mean over 300 s. The peak rises at most ×1.5 a
/// day, halves in seven days, and is only learned during the first day. Cost: constant a lap.
///
/// A doubling in 12 hours is seen within about 12 hours. Weak: what climbs less than ×1.5 a day is
/// normal growth to it, and the first day is unguarded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drift {
    laps: u64,
    slow: f64,
    peak: f64,
    warned: bool,
}

impl Drift {
    pub const fn new() -> Self {
        Self {
            laps: 0,
            slow: 0.0,
            peak: LEAST,
            warned: false,
        }
    }

    /// Whether it warns.
    pub const fn warns(&self) -> bool {
        self.warned
    }

    /// Takes one lap; a surge that has just been reported is none of its business.
    pub fn see(&mut self, arrivals: u32, min_excess: f64, surge: bool) {
        if !surge {
            self.laps = self.laps.saturating_add(1);
            let rate = f64::from(arrivals) * f64::from(LAPS_PER_S);
            self.slow += share(self.laps, SLOW_S) * (rate - self.slow);
        }
        if self.laps <= ARMED {
            if self.laps > READY {
                self.peak = self.peak.max(self.slow);
            }
            return;
        }
        self.warned = if self.warned {
            self.slow > OVER * self.peak
        } else {
            self.slow > WARN * self.peak && (self.slow - self.peak) * 60.0 > min_excess
        };
        self.peak = if self.slow > self.peak {
            self.slow.min(self.peak * RISE)
        } else {
            (self.peak * FADE).max(LEAST)
        };
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.laps.to_le_bytes());
        out.put_f64s([self.slow, self.peak]);
        out.push(u8::from(self.warned));
    }

    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            laps: bytes.u64()?,
            slow: bytes.f64(0.0..=MOST_PER_S)?,
            peak: bytes.f64(LEAST..=MOST_PER_S)?,
            warned: bytes.flag()?,
        })
    }
}
