//! What an operator may say about surges, and what is told of them.

use core::time::Duration;

/// What an operator may say about surges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorConfig {
    /// The multiple of the baseline that is a surge, more where the noise is higher. From 1.05 to
    /// 1,000; default 2.
    pub sensitivity: f64,
    /// Arrivals beyond the baseline that a surge has at least, in one window. Default 20.
    pub min_excess: f64,
    /// How long the first baseline is learned, from 1 s to one day. Default 60 s.
    pub warm_up: Duration,
    /// The normal rate a second, where it is known: there is no warm-up then, and the first lap is
    /// judged already. It is where the baseline begins and nothing more: a wrong one is corrected
    /// at the pace of every baseline, ×2 in 30 minutes, after the first 300 s of the surge that it
    /// may cause.
    pub baseline_per_s: Option<f64>,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            sensitivity: 2.0,
            min_excess: 20.0,
            warm_up: Duration::from_secs(60),
            baseline_per_s: None,
        }
    }
}

impl DetectorConfig {
    /// The same, with everything in its range and no NaN.
    pub(crate) fn checked(self) -> Self {
        let default = Self::default();
        let or = |number: f64, default: f64| if number.is_nan() { default } else { number };
        let day = Duration::from_secs(86_400);
        Self {
            sensitivity: or(self.sensitivity, default.sensitivity).clamp(1.05, 1000.0),
            min_excess: or(self.min_excess, default.min_excess).clamp(0.0, 1e9),
            warm_up: self.warm_up.clamp(Duration::from_secs(1), day),
            baseline_per_s: self.baseline_per_s.filter(|rate| *rate > 0.0),
        }
    }
}

/// What the arrivals are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The baseline is being learned for the first time; nothing is judged.
    WarmUp,
    /// Normal.
    Calm,
    /// More than normal, and not enough for a surge: reported, never enforced.
    Watch,
    /// A surge.
    Surge,
    /// Normal, within two minutes of a surge: one that begins now is the same one's next wave.
    Recovering,
}

impl Phase {
    /// The value of the gauge `tidegate_phase`.
    pub const fn index(self) -> u8 {
        match self {
            Self::WarmUp => 0,
            Self::Calm => 1,
            Self::Watch => 2,
            Self::Surge => 3,
            Self::Recovering => 4,
        }
    }
}

/// How the upstream takes what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// There is room, and it answers as usual.
    AtEase,
    /// The inflight limit is nearly full, or somebody is held.
    Saturated,
    /// It refuses, connects slowly, or accepts and says nothing.
    Distressed,
}

/// What changed in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A surge began.
    pub surge_began: bool,
    /// A surge ended. With `surge_began`: one began and ended, or the other way round; the phase
    /// tells which was last.
    pub surge_ended: bool,
    /// A slow climb is to be warned of: the 5-minute rate is far above its remembered peak.
    pub drift_began: bool,
}

impl Changes {
    pub(crate) fn join(&mut self, later: Self) {
        self.surge_began |= later.surge_began;
        self.surge_ended |= later.surge_ended;
        self.drift_began |= later.drift_began;
    }
}
