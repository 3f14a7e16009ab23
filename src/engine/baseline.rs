//! What is normal: the rate, how far it strays, and how slowly the normal itself may move.

use alloc::vec::Vec;

use super::bytes::{MemoryError, Put, Reader};

/// Laps in a second; everything here advances by laps of 100 ms.
pub(crate) const LAPS_PER_S: u32 = 10;
/// One lap, in s.
pub(crate) const LAP_S: f64 = 1.0 / LAPS_PER_S as f64;

/// The most that a baseline moves, as a share of itself a second: ln 2 / 1,800 s.
pub(crate) const SLEW_PER_S: f64 = core::f64::consts::LN_2 / 1800.0;
/// The same while it makes up for the time that it was frozen: ×2 in 20 minutes, so that freezing
/// and following together bring a lasting ×3 to an end within half an hour.
pub(crate) const CATCH_UP_PER_S: f64 = core::f64::consts::LN_2 / 1200.0;
/// The time constant with which a baseline follows, in s, while it is below that limit.
const FOLLOW_S: f64 = 300.0;
/// No baseline is below this, so that one is never divided by zero: one arrival in 10 s.
pub(crate) const LEAST: f64 = 0.1;
/// No rate is above this: the most that one lap counts, every lap.
pub(crate) const MOST_PER_S: f64 = u32::MAX as f64 * LAPS_PER_S as f64;

/// The time constants of the fast rate and of the Fano factor and of the 1-s scale, in s.
const FAST_S: f64 = 30.0;
const NOISE_S: f64 = 300.0;
/// What one sample weighs at the 10-s scale: 10 s of 900 s.
const TENS_SHARE: f64 = 1.0 / 90.0;
/// A sample of cv² counts for at most this many times what is known, and never for less than that
/// many times `CV2_SEED`.
const CV2_OUTLIER: f64 = 9.0;
const CV2_SEED: f64 = 0.003;
/// A sample of the Fano factor counts for at most this many times what is known.
const FANO_OUTLIER: f64 = 25.0;
/// Above this cv² the noise says nothing any more. It bounds [`Baseline::noise`] at e⁵.
const CV2_MOST: f64 = 1.0;
/// A fast rate that is further from the baseline than that is an outage or a climb, not noise.
const SLOW_STRAY: f64 = 0.5;
/// An exponential mean over `T` keeps `τ ÷ (τ + T)` of the variance of what strays with a memory of
/// `τ`: of a memory of a minute the fast rate shows two thirds.
const HIDDEN_SLOW: f64 = 1.5;
/// The 1-s scale needs this rate, or it sees nothing but Poisson noise.
const SECONDS_FROM_PER_S: f64 = 50.0;

/// What a baseline becomes within one lap when it is pulled towards `target`.
///
/// `base · (1 + dt · clip(ln(target / base) / 300 s, ±slew))`. With the slew limit
/// [`SLEW_PER_S`] it can at most double or halve in 30 minutes. Unit: that of `base`; never below
/// [`LEAST`]. Cost: one logarithm when the two are close to each other, else none.
pub(crate) fn follow(base: f64, target: f64, slew: f64) -> f64 {
    // 1 - 1/x <= ln x <= x - 1 says without a logarithm that the limit is passed.
    let ratio = target / base;
    let limit = slew * FOLLOW_S;
    let pull = if ratio - 1.0 >= limit * ratio {
        slew
    } else if ratio - 1.0 <= -limit {
        -slew
    } else {
        (libm::log(ratio) / FOLLOW_S).clamp(-slew, slew)
    };
    (base * (1.0 + LAP_S * pull)).clamp(LEAST, MOST_PER_S)
}

/// The learned normal rate and its noise.
///
/// - fast rate: exponential mean over 30 s, and a plain mean until it is that old.
/// - baseline: [follows](follow) the fast rate, at most doubling or halving in 30 minutes, so that
///   neither an outage nor a surge erases it.
/// - noise at 100 ms: the Fano factor `phi` = variance ÷ mean, at least 1, which is Poisson's
///   (U. Fano, Phys. Rev. 72, 1947). Over 300 s; a sample counts at most `25 · phi`.
/// - noise at 1 s and at 10 s: `cv²` = max(0, mean of ((n − m)² − phi · m) ÷ m²), what the
///   rate itself strays after Poisson's part has been taken away. Over 300 s and 900 s; a sample
///   counts at most `9 · max(cv², 0.003)`. The 1-s scale only from 50 a second on.
/// - noise within minutes: the mean of (fast ÷ baseline − 1)², without Poisson's part, added to the
///   former. Over 900 s; while the fast rate is within ±50 % of the baseline.
/// - [`noise`](Self::noise): `exp(5 · cv)`, the multiple of the baseline that five standard
///   deviations of a log-normal rate reach.
///
/// Cost: constant a lap, one exponential every 10 s. Weak where
/// the rate strays at scales of many minutes: the baseline follows that half-way; and it can be
/// taught by whoever sends bursts that are just too small for a surge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Baseline {
    /// Laps seen.
    laps: u64,
    fast: f64,
    per_s: f64,
    fano: f64,
    cv2_1s: f64,
    cv2_10s: f64,
    cv2_slow: f64,
    noise: f64,
    /// Arrivals of the running second and of the running 10 s.
    second: u64,
    tens: u64,
}

impl Baseline {
    /// One that knows nothing, or what it was told.
    pub fn new(hint: Option<f64>) -> Self {
        Self {
            laps: 0,
            fast: 0.0,
            per_s: hint.unwrap_or(LEAST).clamp(LEAST, MOST_PER_S),
            fano: 1.0,
            cv2_1s: 0.0,
            cv2_10s: 0.0,
            cv2_slow: 0.0,
            noise: 1.0,
            second: 0,
            tens: 0,
        }
    }

    /// How far the fast rate is above the baseline, as a multiple.
    pub fn climb(&self) -> f64 {
        self.fast / self.per_s
    }

    /// Laps seen.
    pub fn laps(&self) -> u64 {
        self.laps
    }

    /// The normal rate, a second.
    pub fn per_s(&self) -> f64 {
        self.per_s
    }

    /// The Fano factor at 100 ms, at least 1.
    pub fn fano(&self) -> f64 {
        self.fano
    }

    /// The multiple of the baseline that noise alone reaches, from 1 to e⁵.
    pub fn noise(&self) -> f64 {
        self.noise
    }

    /// Takes one lap into the fast rate and, while `calm`, into the noise, where it weighs `weight`.
    pub fn see(&mut self, arrivals: u32, calm: bool, weight: f64) {
        self.laps = self.laps.saturating_add(1);
        let rate = f64::from(arrivals) * f64::from(LAPS_PER_S);
        self.fast += share(self.laps, FAST_S) * (rate - self.fast);
        self.second = self.second.saturating_add(u64::from(arrivals));
        if calm && self.laps > 101 {
            let mean = self.fast * LAP_S;
            let sample = square(f64::from(arrivals) - mean) / mean.max(0.05);
            let sample = sample.min(FANO_OUTLIER * self.fano);
            self.fano = (self.fano + (sample - self.fano) * (weight * LAP_S / NOISE_S)).max(1.0);
        }
        if self.laps.is_multiple_of(10) {
            self.close_second(calm, weight);
        }
        if self.laps.is_multiple_of(100) {
            self.close_tens(calm, weight);
        }
    }

    fn close_second(&mut self, calm: bool, weight: f64) {
        if calm && self.laps > 301 {
            let sample = self.stray(self.second, self.fast, 1.0);
            self.cv2_1s = learned(self.cv2_1s, sample, weight / NOISE_S);
        }
        self.tens = self.tens.saturating_add(self.second);
        self.second = 0;
    }

    fn close_tens(&mut self, calm: bool, weight: f64) {
        if calm && self.laps > 601 {
            let sample = self.stray(self.tens, 10.0 * self.fast, 4.0);
            self.cv2_10s = learned(self.cv2_10s, sample, weight * TENS_SHARE);
            let mut cv2 = self.cv2_10s.max(0.0);
            if self.fast >= SECONDS_FROM_PER_S {
                cv2 = cv2.max(self.cv2_1s);
            }
            self.learn_slow();
            cv2 = (cv2 + self.cv2_slow.max(0.0)).min(CV2_MOST);
            self.noise = libm::exp(5.0 * cv2.sqrt());
        }
        self.tens = 0;
    }

    /// One sample of how far the fast rate strays from the baseline.
    fn learn_slow(&mut self) {
        let stray = self.fast / self.per_s - 1.0;
        if stray.abs() <= SLOW_STRAY {
            // An exponential mean over T has the variance of a plain one over 2T.
            let poisson = self.fano / (2.0 * FAST_S * self.per_s);
            let sample = (square(stray) - poisson) * HIDDEN_SLOW;
            self.cv2_slow = learned(self.cv2_slow, sample, TENS_SHARE);
        }
    }

    /// One sample of cv²: how far `count` strays from `mean` beyond Poisson's part.
    fn stray(&self, count: u64, mean: f64, least: f64) -> f64 {
        (square(count as f64 - mean) - self.fano * mean) / square(mean).max(least)
    }

    /// Lets the baseline follow the fast rate for one lap.
    pub fn relearn(&mut self, slew: f64) {
        self.per_s = follow(self.per_s, self.fast.max(0.05), slew);
    }

    /// Takes the fast rate as normal: for the warm-up.
    pub fn adopt(&mut self) {
        self.per_s = self.fast.max(LEAST);
    }

    /// Forgets the surge that is over: the fast rate goes on from the baseline.
    ///
    /// Otherwise what follows would be measured against a mean that still holds the surge, and
    /// taken for noise: a ×10 surge at 500/s would raise the Fano factor from 1 to about 50, and a
    /// second surge minutes later would be seen late.
    pub fn settle(&mut self) {
        self.fast = self.per_s;
        // The running 1 s and 10 s go on as if they had been normal.
        self.second = (self.per_s * LAP_S * (self.laps % 10) as f64) as u64;
        self.tens = (self.per_s * (self.laps % 100 / 10) as f64) as u64;
    }

    /// Appends what is known.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.laps.to_le_bytes());
        out.put_f64s([self.fast, self.per_s, self.fano]);
        out.put_f64s([self.cv2_1s, self.cv2_10s, self.cv2_slow]);
        out.put_f64s([self.noise]);
        out.put(self.second.to_le_bytes());
        out.put(self.tens.to_le_bytes());
    }

    /// Reads what is known.
    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            laps: bytes.u64()?,
            fast: bytes.f64(0.0..=MOST_PER_S)?,
            per_s: bytes.f64(LEAST..=MOST_PER_S)?,
            fano: bytes.f64(1.0..=1e21)?,
            cv2_1s: bytes.f64(-1.0..=CV2_MOST)?,
            cv2_10s: bytes.f64(-1.0..=CV2_MOST)?,
            cv2_slow: bytes.f64(-1.0..=CV2_MOST)?,
            noise: bytes.f64(1.0..=150.0)?,
            second: bytes.u64()?.min(u64::from(u32::MAX) * 10),
            tens: bytes.u64()?.min(u64::from(u32::MAX) * 100),
        })
    }
}

/// What one lap weighs in an exponential mean over `seconds`, of which `laps` have been seen; it is
/// a plain mean at first.
pub(crate) fn share(laps: u64, seconds: f64) -> f64 {
    if laps as f64 * LAP_S < seconds {
        1.0 / laps.max(1) as f64
    } else {
        LAP_S / seconds
    }
}

fn square(x: f64) -> f64 {
    x * x
}

/// An exponential mean of cv² in which one sample counts for little.
fn learned(cv2: f64, sample: f64, share: f64) -> f64 {
    let most = CV2_OUTLIER * cv2.max(CV2_SEED);
    (cv2 + (sample.max(-1.0).min(most) - cv2) * share).clamp(-1.0, CV2_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_doubles_or_halves_in_half_an_hour_and_no_faster() {
        for (target, factor) in [(1e9, 2.0), (0.05, 0.5)] {
            let mut base = 100.0;
            for _ in 0..18_000 {
                base = follow(base, target, SLEW_PER_S);
            }
            assert!((base / (100.0 * factor) - 1.0).abs() < 0.001, "{base}");
        }
    }

    #[test]
    fn the_spared_logarithm_changes_nothing() {
        for step in 1..400 {
            let target = f64::from(step) * 0.5;
            let slow = (libm::log(target / 100.0) / 300.0).clamp(-SLEW_PER_S, SLEW_PER_S);
            assert_eq!(
                follow(100.0, target, SLEW_PER_S),
                100.0 * (1.0 + 0.1 * slow)
            );
        }
    }

    #[test]
    fn even_traffic_is_taken_for_no_noise() {
        let mut baseline = Baseline::new(None);
        for _ in 0..6_000 {
            baseline.see(50, true, 1.0);
            baseline.adopt();
        }
        assert!((baseline.per_s() - 500.0).abs() < 1e-6);
        assert_eq!(baseline.fano(), 1.0);
        assert_eq!(baseline.noise(), 1.0);
    }

    #[test]
    fn the_wildest_noise_keeps_the_levels_finite() {
        let mut baseline = Baseline::new(None);
        for lap in 0..100_000_u32 {
            baseline.see(if lap % 700 == 0 { u32::MAX } else { 0 }, true, 1.0);
            baseline.relearn(SLEW_PER_S);
        }
        assert!(baseline.noise().is_finite() && baseline.noise() <= 150.0);
        assert!(baseline.fano().is_finite() && baseline.fano() <= 1e21);
    }
}
