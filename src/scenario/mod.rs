//! Made-up arrivals, for tests, benchmarks and replays: the same seed gives the same ones.
//!
//! Not in the plugin: native builds only.

mod random;
mod shape;
mod spread;

pub use random::Random;
pub use shape::Shape;
pub use spread::spread;

/// Laps in a second; a scenario advances by laps of 100 ms, as the detector does.
pub const LAPS_PER_S: u32 = 10;
const LAP_S: f64 = 0.1;

/// How the rate strays from what the shape says, beyond Poisson's own noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// Poisson alone: independent arrivals.
    Poisson,
    /// The rate is multiplied by a gamma number of coefficient of variation `cv`, drawn anew every
    /// `every_s`: counts are negative binomial.
    Gamma {
        /// Standard deviation ÷ mean.
        cv: f64,
        /// How long one number holds, in s.
        every_s: f64,
    },
    /// The rate is multiplied by a log-normal number that wanders: the logarithm is an
    /// Ornstein-Uhlenbeck process, mean of the factor 1.
    Wander {
        /// Standard deviation of the logarithm.
        cv: f64,
        /// The time after which it has forgotten where it was, in s.
        memory_s: f64,
    },
}

/// Arrivals of a rule, lap by lap, without end.
///
/// `rate(t) = base · day(t) · shape(t) · noise(t)`; the arrivals of a lap are a Poisson number of
/// the mean `rate · 0.1 s`. Cost: some 50 ns a lap.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The mean rate, a second.
    pub base_per_s: f64,
    /// The busiest hour ÷ the quietest, in a sine of a day; 1 is none. The mean stays the base.
    pub day: f64,
    /// How the rate strays.
    pub noise: Noise,
    /// What happens.
    pub shape: Shape,
    random: Random,
    lap: u64,
    /// The logarithm of the wandering factor, or the gamma factor.
    stray: f64,
    /// The sine of the day, which is renewed every 10 s.
    sine: f64,
}

impl Scenario {
    /// Steady Poisson arrivals of that rate.
    pub fn new(base_per_s: f64, seed: u64) -> Self {
        Self {
            base_per_s,
            day: 1.0,
            noise: Noise::Poisson,
            shape: Shape::Steady,
            random: Random::new(seed),
            lap: 0,
            stray: f64::NAN,
            sine: 0.0,
        }
    }

    /// The same with another shape.
    pub fn shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// The same with noise.
    pub fn noise(self, noise: Noise) -> Self {
        Self { noise, ..self }
    }

    /// The same with days; 4 is a busiest hour of 4 × the quietest.
    pub fn day(self, day: f64) -> Self {
        Self { day, ..self }
    }

    /// The time at which the next lap begins, in s.
    pub fn at(&self) -> f64 {
        self.lap as f64 * LAP_S
    }

    /// The mean arrivals of the next lap.
    fn mean(&mut self) -> f64 {
        let t = self.at();
        let noise = self.stray();
        if self.day > 1.0 && self.lap.is_multiple_of(100) {
            self.sine = libm::sin(core::f64::consts::TAU * (t / 86_400.0 - 0.25));
        }
        let day = 1.0 + (self.day - 1.0) / (self.day + 1.0) * self.sine;
        self.lap += 1;
        (self.base_per_s * day * self.shape.factor(t) * noise * LAP_S).max(0.0)
    }

    fn stray(&mut self) -> f64 {
        match self.noise {
            Noise::Poisson => 1.0,
            Noise::Gamma { cv, .. } | Noise::Wander { cv, .. } if cv <= 0.0 => 1.0,
            Noise::Gamma { cv, every_s } => {
                let laps = ((every_s / LAP_S) as u64).max(1);
                if self.lap.is_multiple_of(laps) || self.stray.is_nan() {
                    self.stray = self.random.gamma(1.0 / (cv * cv));
                }
                self.stray
            }
            Noise::Wander { cv, memory_s } => {
                let kept = libm::exp(-LAP_S / memory_s);
                self.stray = if self.stray.is_nan() {
                    cv * self.random.normal()
                } else {
                    kept * self.stray + cv * (1.0 - kept * kept).sqrt() * self.random.normal()
                };
                libm::exp(self.stray - 0.5 * cv * cv)
            }
        }
    }

    /// The arrivals of the next lap by caller, as many callers as `out` has places.
    ///
    /// Caller `i` makes a share in proportion to `1 / (i + 1)` (Zipf's law); what
    /// [`Shape::OneCaller`] adds is all of caller 0.
    pub fn next_by_caller(&mut self, out: &mut [u32]) {
        let excess = match self.shape {
            Shape::OneCaller { .. } => 1.0 - 1.0 / self.shape.factor(self.at()),
            _ => 0.0,
        };
        let mean = self.mean();
        let shares: f64 = (1..=out.len()).map(|place| 1.0 / place as f64).sum();
        for (index, count) in out.iter_mut().enumerate() {
            let share = (1.0 - excess) / (index as f64 + 1.0) / shares;
            let own = if index == 0 { excess } else { 0.0 };
            *count = self.random.poisson(mean * (share + own));
        }
    }
}

impl Iterator for Scenario {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mean = self.mean();
        Some(self.random.poisson(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(scenario: Scenario, from_s: usize, to_s: usize) -> f64 {
        let arrivals: u64 = scenario
            .skip(from_s * 10)
            .take((to_s - from_s) * 10)
            .map(u64::from)
            .sum();
        arrivals as f64 / (to_s - from_s) as f64
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let make = |seed| {
            Scenario::new(20.0, seed)
                .noise(Noise::Wander {
                    cv: 0.2,
                    memory_s: 5.0,
                })
                .day(4.0)
                .take(5_000)
                .collect::<Vec<_>>()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn every_noise_leaves_the_mean_as_it_is() {
        for noise in [
            Noise::Poisson,
            Noise::Gamma {
                cv: 0.2,
                every_s: 1.0,
            },
            Noise::Wander {
                cv: 0.2,
                memory_s: 5.0,
            },
        ] {
            let mean = rate(Scenario::new(100.0, 4).noise(noise), 0, 10_000);
            assert!((mean / 100.0 - 1.0).abs() < 0.02, "{noise:?}: {mean}");
        }
    }

    #[test]
    fn a_day_is_four_times_as_busy_at_noon_as_at_midnight() {
        let night = rate(Scenario::new(100.0, 5).day(4.0), 0, 600);
        let noon = rate(Scenario::new(100.0, 5).day(4.0), 42_900, 43_500);
        assert!((noon / night - 4.0).abs() < 0.1, "{night} {noon}");
    }

    #[test]
    fn one_noisy_caller_makes_the_excess_alone() {
        let shape = Shape::OneCaller {
            at: 0.0,
            factor: 5.0,
            lasts: 1e9,
        };
        let mut scenario = Scenario::new(1_000.0, 6).shape(shape);
        let mut sums = [0_u32; 4];
        for _ in 0..1_000 {
            let mut lap = [0; 4];
            scenario.next_by_caller(&mut lap);
            for (sum, count) in sums.iter_mut().zip(lap) {
                *sum += count;
            }
        }
        // 5,000/s: 4,000 more of caller 0; the rest as 12 : 6 : 4 : 3.
        let wanted = [448_000.0, 24_000.0, 16_000.0, 12_000.0];
        for (sum, wanted) in sums.iter().zip(wanted) {
            assert!((f64::from(*sum) / wanted - 1.0).abs() < 0.05, "{sums:?}");
        }
    }
}
