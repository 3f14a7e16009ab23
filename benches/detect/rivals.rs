//! The detector, and the textbook rules beside it.

use tidegate::engine::{Detector, DetectorConfig, Phase, Timestamp, Upstream};

/// What is measured.
pub trait Rule {
    /// Takes one lap; whether there is an alarm at its end.
    fn lap(&mut self, arrivals: u32) -> bool;

    /// Where in the lap that began an alarm it began, from 0 to 1.
    fn part(&self) -> f64 {
        1.0
    }
}

/// How the columns are called.
pub const NAMES: [&str; 5] = ["TIDE", "fixed", "ewma+6s", "1s/600s", "page-h."];

/// A new rule of every kind; the fixed threshold has been told the base rate.
pub fn all(base_per_s: f64) -> [Box<dyn Rule + Send>; 5] {
    [
        Box::new(Tide::new()),
        Box::new(Seconds::new(Fixed(base_per_s))),
        Box::new(Seconds::new(Ewma {
            mean: 0.0,
            variance: 0.0,
        })),
        Box::new(Seconds::new(Ratio { mean: 0.0 })),
        Box::new(Seconds::new(PageHinkley {
            mean: 0.0,
            sum: 0.0,
        })),
    ]
}

/// The detector of the engine, with its defaults.
pub struct Tide {
    /// The detector.
    pub detector: Detector,
    lap: u64,
    part: f64,
}

impl Tide {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self {
            detector: Detector::new(DetectorConfig::default()),
            lap: 0,
            part: 1.0,
        }
    }
}

impl Rule for Tide {
    fn lap(&mut self, arrivals: u32) -> bool {
        self.lap += 1;
        let count = self.detector.trip_count();
        // Arrivals are spread over their lap, and the event that trips decides at once.
        self.part = (f64::from(count) / f64::from(arrivals.max(1))).min(1.0);
        let now = Timestamp::from_millis(self.lap * 100);
        self.detector.tick(arrivals, now, Upstream::AtEase);
        self.detector.phase() == Phase::Surge
    }

    fn part(&self) -> f64 {
        self.part
    }
}

/// A rule that looks at each whole second, after a warm-up of 60 s; its alarm lasts until it has
/// been quiet for 5 s.
struct Seconds<R> {
    rule: R,
    laps: u64,
    sum: u32,
    alarm: bool,
    quiet: u32,
}

/// What such a rule says of one second.
trait Second {
    fn second(&mut self, count: f64, age_s: f64, alarm: bool) -> bool;
}

impl<R> Seconds<R> {
    const fn new(rule: R) -> Self {
        Self {
            rule,
            laps: 0,
            sum: 0,
            alarm: false,
            quiet: 0,
        }
    }
}

impl<R: Second> Rule for Seconds<R> {
    fn lap(&mut self, arrivals: u32) -> bool {
        self.laps += 1;
        self.sum += arrivals;
        if self.laps.is_multiple_of(10) {
            let age = self.laps as f64 / 10.0;
            let over = self.rule.second(f64::from(self.sum), age, self.alarm) && age > 60.0;
            self.sum = 0;
            self.quiet = if over { 0 } else { self.quiet + 1 };
            self.alarm = over || (self.alarm && self.quiet < 5);
        }
        self.alarm
    }
}

/// Twice the busiest hour of a day of 4 : 1, as an operator would set it.
struct Fixed(f64);

impl Second for Fixed {
    fn second(&mut self, count: f64, _: f64, _: bool) -> bool {
        count > (3.2 * self.0).max(self.0 + 20.0)
    }
}

/// Above the exponential mean over 60 s by 6 standard deviations, both frozen in an alarm.
struct Ewma {
    mean: f64,
    variance: f64,
}

impl Second for Ewma {
    fn second(&mut self, count: f64, age_s: f64, alarm: bool) -> bool {
        let off = count - self.mean;
        let over = off > 6.0 * self.variance.max(self.mean).max(1.0).sqrt();
        let share = (1.0 / 60.0_f64).max(1.0 / age_s);
        if !alarm {
            self.mean += share * off;
            self.variance += share * (off * off - self.variance);
        }
        over
    }
}

/// Twice the exponential mean over 600 s, and 20 more.
struct Ratio {
    mean: f64,
}

impl Second for Ratio {
    fn second(&mut self, count: f64, age_s: f64, _: bool) -> bool {
        let over = count > (2.0 * self.mean).max(self.mean + 20.0);
        self.mean += (1.0 / 600.0_f64).max(1.0 / age_s) * (count - self.mean);
        over
    }
}

/// Page's sum of what is above 1.5 × the exponential mean over 600 s; alarm at one second's worth
/// of the mean, and 20 (E. S. Page, 1954; the variant of Hinkley, 1971).
struct PageHinkley {
    mean: f64,
    sum: f64,
}

impl Second for PageHinkley {
    fn second(&mut self, count: f64, age_s: f64, _: bool) -> bool {
        let most = 4.0 * self.mean.max(20.0);
        self.sum = (self.sum + count - 1.5 * self.mean).clamp(0.0, most);
        self.mean += (1.0 / 600.0_f64).max(1.0 / age_s) * (count - self.mean);
        self.sum > self.mean.max(20.0)
    }
}
