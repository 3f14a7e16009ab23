//! When arrivals are a surge.

use alloc::vec::Vec;

use super::{
    baseline::{Baseline, CATCH_UP_PER_S, LAPS_PER_S, LEAST, MOST_PER_S, SLEW_PER_S},
    bytes::{MemoryError, Put, Reader},
    drift::Drift,
    known::Known,
    laps::Laps,
    ring::{Ring, WINDOWS},
    surge::{Changes, DetectorConfig, Phase, Upstream},
    time::Timestamp,
};

/// The multiple of the baseline that is worth watching.
const WATCH: f64 = 1.5;
/// How many standard deviations above what noise reaches.
const SIGMAS: f64 = 6.0;
/// How many above the multiple that was asked for, in each window. In the longest of them that
/// multiple is itself so many above the baseline that it only has to be passed for sure.
const SURE: [f64; WINDOWS.len()] = [6.0, 6.0, 6.0, 2.0, 2.0, 2.0];
/// How many standard deviations above half way between them and the baseline a surge is over. A bit
/// fewer than the reference has, as no level may be below the one of its end.
const OVER: f64 = 2.5;
/// The noise that may always be there: exp(5 · cv) of a cv of 0.1, which few arrivals hide.
const HIDDEN: f64 = 1.65;
/// Laps that a surge stays after it has become calm, at first and at most.
const HOLD: u32 = 5 * LAPS_PER_S;
const HOLD_MOST: u32 = 60 * LAPS_PER_S;
/// A surge that begins within this many laps of another is taken for its next wave.
const AGAIN: u32 = 120 * LAPS_PER_S;
/// Laps of surge during which the baseline is frozen.
const FROZEN: u32 = 300 * LAPS_PER_S;
/// Calm laps after which a surge is a new one, whose baseline is frozen again.
const FORGIVEN: u32 = 600 * LAPS_PER_S;

/// While the fast rate is this many times the baseline, or there is something to watch, noise is
/// learned at this share of its pace: what lies above a mean that lags behind is the climb's.
const CLIMB: f64 = 1.2;
const CLIMBING: f64 = 0.25;

const MAGIC: [u8; 4] = *b"TGD\x02";

/// The levels that the next lap is judged by.
#[derive(Clone, Copy, Debug)]
struct Levels {
    /// Arrivals of the next lap that are a surge, and that are worth watching.
    surge: u32,
    watch: u32,
    /// Arrivals of 2 s below which both are over.
    surge_over: f64,
    watch_over: f64,
}

impl Levels {
    /// For a lap that reaches none.
    const OUT_OF_REACH: Self = Self {
        surge: u32::MAX,
        watch: u32::MAX,
        surge_over: f64::INFINITY,
        watch_over: f64::INFINITY,
    };
}

/// Says when arrivals are a surge: reference `TIDE`.
///
/// In laps of 100 ms. A lap begins a surge when for any window `w` of 0.5, 1, 2, 8, 16, 32 s, with
/// the baseline `B` and `μ = B·w`:
///
/// `N_w > n·μ + 6·sqrt(phi·n·μ)`, which noise does not reach, `N_w > s·μ + 2·sqrt(phi·s·μ)`, which
/// is a surge for sure, and `N_w − μ > max(min_excess, B/10)`
///
/// where `s` is the sensitivity (up to 2 s: with six deviations, too), `n = exp(5·cv)`, and `phi`,
/// `cv` are the noise that was learned; below, `q = max(s, n)`. A rate that is known to do
/// no harm is none. It is over when the 2-s window stays under `½(1+q)·μ + 2.5·sqrt(phi·q·μ)` for
/// 5 s; the hold doubles, to 60 s, when the next surge begins within 2 minutes. The windows are then refilled with the
/// baseline, or the longest would still be full of the surge.
///
/// The baseline stands still for the first 300 s of surge, counted over its waves until 10 minutes
/// were calm; later it follows while the upstream is healthy, ×2 in 20 minutes, so a lasting ×3 is
/// normal after less than half an hour.
///
/// The lap that is judged has no part in the levels it is judged by: so
/// [`trip_count`](Self::trip_count) is known before it begins, and whoever counts events decides
/// within the lap what the tick decides at its end.
///
/// It differs from the reference in Python that it was measured against (`tests/engine/data`):
/// - the levels are those before the lap, and sums are whole numbers;
/// - in windows from 8 s on, six standard deviations are kept from the noise alone, and not from
///   twice the baseline; and the baseline follows what is watched at a quarter of its pace: at 20/s
///   a climb to ×10 in 10 minutes is seen after 98 s and not 125 (p95);
/// - a rate that the upstream took with ease within the last days is no surge: on 87 days of a
///   real site 7 alarms and not 51;
/// - a window of 1 s is there, too: ×3 at 500/s with 10 % noise is seen in 1.0 s and not in 1.6 (p95);
/// - a surge leaves no trace in the fast rate, or its tail would be learned as noise and the next
///   wave be seen late; and a surge is no drift;
/// - noise is learned more slowly in a climb, which is seen up to 8 % sooner for it;
/// - what the rate strays within minutes counts as noise, too;
/// - the baseline follows a lasting surge in 20 minutes and not in 30.
///
/// Phases are the same to within one lap in the recorded scenes, but for the end of a lasting surge
/// and the begin of a slow climb.
///
/// Delay at 500/s with noise of 10 %: ×3 in half a second, ×10 in a tenth. Cost: nothing an
/// event; a lap one logarithm, some 80 ns while all is calm. Memory: 1.5 KiB, constant.
///
/// Weak: a surge of less than `sensitivity` is watched and never more; below 1/s a surge needs
/// its `min_excess`; a climb slower than ×2 in 30 minutes is only a drift warning; bursts
/// that stay just below a surge teach it noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    config: DetectorConfig,
    laps: Laps,
    ring: Ring,
    baseline: Baseline,
    drift: Drift,
    known: Known,
    surge: bool,
    watch: bool,
    /// Laps without interruption that were under the level of their end.
    surge_clear: u32,
    watch_clear: u32,
    /// Laps that a surge stays after it has become calm.
    hold: u32,
    /// Laps since the last surge, saturating.
    since: u32,
    /// Laps of surge, over its waves.
    age: u32,
    /// When the last surge began, and the most arrivals that any 2 s of it had.
    began: Timestamp,
    peak: u64,
}

impl Detector {
    /// One that has seen nothing; what is out of its range in `config` is brought into it.
    pub fn new(config: DetectorConfig) -> Self {
        let config = config.checked();
        Self {
            config,
            laps: Laps::default(),
            ring: Ring::new(),
            baseline: Baseline::new(config.baseline_per_s),
            drift: Drift::new(),
            known: Known::default(),
            surge: false,
            watch: false,
            surge_clear: 0,
            watch_clear: 0,
            hold: HOLD,
            since: u32::MAX,
            age: 0,
            began: Timestamp::ZERO,
            peak: 0,
        }
    }

    /// Goes on with another configuration, and with all that was learned.
    pub fn reconfigure(&mut self, config: DetectorConfig) {
        self.config = config.checked();
    }

    /// Takes the arrivals since the last call; to be called about every 100 ms.
    ///
    /// A call within the same lap adds to it; one that comes late spreads its arrivals evenly over
    /// the laps that have passed, 320 of them at most: after longer silence only the last 32 s are
    /// made up for, at the mean rate of the silence. Time that nobody watched teaches nothing. A
    /// clock that steps back by less than a second stands still, further it costs one lap. A
    /// surge that brings the `upstream` into distress never becomes normal.
    pub fn tick(&mut self, arrivals: u32, now: Timestamp, upstream: Upstream) -> Changes {
        let mut changes = Changes::default();
        for lap in self.laps.pass(arrivals, now) {
            changes.join(self.lap(lap, now, upstream));
        }
        changes
    }

    /// Decides within a lap, when the `running` arrivals since the last tick have reached
    /// [`trip_count`](Self::trip_count); the tick that follows still counts them. Says nothing when
    /// the tick is late, as then they belong to several laps.
    pub fn notice(&mut self, running: u32, now: Timestamp) -> Changes {
        let due = running >= self.trip_count() && self.laps.is_current(now);
        if self.surge || self.is_warming_up() || !due {
            return Changes::default();
        }
        self.begin(now);
        self.peak = self.ring.two_s() + u64::from(running);
        Changes {
            surge_began: true,
            ..Changes::default()
        }
    }

    /// How many arrivals from the last tick to the next one are a surge; `u32::MAX` when none can
    /// be.
    ///
    /// Known before they come: an event costs an increment and a comparison. Asking costs some 40 ns.
    pub fn trip_count(&self) -> u32 {
        if self.surge || self.is_warming_up() {
            return u32::MAX;
        }
        self.surge_level().0.saturating_sub(self.laps.pending())
    }

    /// Whether so many `running` arrivals since the last tick have reached
    /// [`trip_count`](Self::trip_count): for who asks seldom, as it mostly costs less.
    pub fn trips(&self, running: u32) -> bool {
        self.may_pass(self.laps.pending().saturating_add(running)) && running >= self.trip_count()
    }

    /// What the arrivals are like.
    pub fn phase(&self) -> Phase {
        if self.surge {
            Phase::Surge
        } else if self.is_warming_up() {
            Phase::WarmUp
        } else if self.watch {
            Phase::Watch
        } else if self.since < AGAIN {
            Phase::Recovering
        } else {
            Phase::Calm
        }
    }

    /// Whether a slow climb is being warned of.
    pub fn drifts(&self) -> bool {
        self.drift.warns()
    }

    /// Arrivals a second over the last 2 s; the baseline at first after a surge.
    pub fn rate_per_s(&self) -> f64 {
        self.ring.two_s() as f64 / 2.0
    }

    /// The learned normal rate, a second; never below 0.1.
    pub fn baseline_per_s(&self) -> f64 {
        self.baseline.per_s()
    }

    /// The highest multiple of the baseline in any window, 0.5 s to 32 s.
    pub fn ratio(&self) -> f64 {
        let most = |most: f64, (span, sum, _): (f64, u64, u64)| most.max(sum as f64 / span);
        self.ring.windows().into_iter().fold(0.0, most) / self.baseline.per_s()
    }

    /// The multiple of the baseline that is a surge now: `q`.
    pub fn surge_multiple(&self) -> f64 {
        self.config.sensitivity.max(self.baseline.noise())
    }

    /// When the running or the last surge began, if there was one.
    pub fn surge_began(&self) -> Option<Timestamp> {
        (self.surge || self.since != u32::MAX).then_some(self.began)
    }

    /// The highest rate a second, over 2 s, of the running or the last surge.
    pub fn peak_per_s(&self) -> f64 {
        self.peak as f64 / 2.0
    }

    fn is_warming_up(&self) -> bool {
        let laps = self.config.warm_up.as_millis() as u64 / 100;
        self.config.baseline_per_s.is_none() && self.baseline.laps() < laps
    }

    fn begin(&mut self, now: Timestamp) {
        if self.since > FORGIVEN {
            self.age = 0;
        }
        self.hold = if self.since < AGAIN {
            self.hold.saturating_mul(2).min(HOLD_MOST)
        } else {
            HOLD
        };
        self.surge = true;
        self.watch = false;
        self.surge_clear = 0;
        self.began = now;
        self.peak = 0;
        self.known.begin();
    }

    fn end(&mut self) {
        self.surge = false;
        self.since = 0;
        self.known.end();
        self.baseline.settle();
        self.ring
            .refill(self.baseline.per_s() / f64::from(LAPS_PER_S));
    }

    /// One lap of 100 ms.
    fn lap(&mut self, arrivals: u32, now: Timestamp, upstream: Upstream) -> Changes {
        let (before, drifted) = (self.surge, self.drift.warns());
        let mut ended = false;
        let judged = !self.is_warming_up();
        let levels = if self.surge || self.watch || (judged && self.may_pass(arrivals)) {
            self.levels()
        } else {
            Levels::OUT_OF_REACH
        };
        if judged && !self.surge {
            self.since = self.since.saturating_add(1);
            if arrivals >= levels.surge {
                self.begin(now);
            }
        }
        let began = self.surge && !before;
        self.ring.push(arrivals);
        let climbing = self.watch || self.baseline.climb() > CLIMB;
        let weight = if climbing { CLIMBING } else { 1.0 };
        self.baseline.see(arrivals, !self.surge, weight);
        self.drift.see(
            arrivals,
            self.config.min_excess,
            self.surge && self.age <= FROZEN,
        );
        let longest = self.surge.then(|| self.ring.longest());
        self.known.see(longest, upstream);
        if !judged {
            self.baseline.adopt();
        } else if self.surge {
            ended = self.in_surge(levels.surge_over, upstream != Upstream::Distressed);
        } else {
            let slew = if self.watch {
                SLEW_PER_S * 0.25
            } else {
                SLEW_PER_S
            };
            self.baseline.relearn(slew);
            self.watch_level(arrivals, &levels);
        }
        Changes {
            surge_began: began,
            surge_ended: ended,
            drift_began: self.drift.warns() && !drifted,
        }
    }

    /// One lap of surge; whether it was the last.
    fn in_surge(&mut self, over: f64, healthy: bool) -> bool {
        let two_s = self.ring.two_s();
        self.peak = self.peak.max(two_s);
        self.age = self.age.saturating_add(1);
        if self.age > FROZEN && healthy {
            self.baseline.relearn(CATCH_UP_PER_S);
        }
        if two_s as f64 >= over {
            self.surge_clear = 0;
            return false;
        }
        self.surge_clear = self.surge_clear.saturating_add(1);
        let over = self.surge_clear >= self.hold;
        if over {
            self.end();
        }
        over
    }

    fn watch_level(&mut self, arrivals: u32, levels: &Levels) {
        if !self.watch {
            self.watch = arrivals >= levels.watch;
            self.watch_clear = 0;
        } else if self.ring.two_s() as f64 >= levels.watch_over {
            self.watch_clear = 0;
        } else {
            self.watch_clear = self.watch_clear.saturating_add(1);
            self.watch = self.watch_clear < HOLD;
        }
    }

    /// Whether so many arrivals may reach any level: a look that spares the levels while all is calm.
    fn may_pass(&self, arrivals: u32) -> bool {
        let (base, excess) = (self.baseline.per_s(), self.excess());
        let watch = base * WATCH.min(self.config.sensitivity);
        self.ring.windows().into_iter().any(|(span, _, kept)| {
            (kept + u64::from(arrivals)) as f64 > (watch * span).max(base * span + excess)
        })
    }

    /// What there must be beyond the baseline in any window.
    fn excess(&self) -> f64 {
        self.config.min_excess.max(0.1 * self.baseline.per_s())
    }

    /// The levels for the next lap, from all that is known now.
    fn levels(&self) -> Levels {
        let (surge, surge_over) = self.surge_level();
        let (watch, watch_over) = self.level_at(WATCH.min(self.config.sensitivity), 0.0);
        Levels {
            surge,
            watch,
            surge_over,
            watch_over,
        }
    }

    /// The arrivals of the next lap that begin a surge, and those of 2 s that end it.
    fn surge_level(&self) -> (u32, f64) {
        // The waves of one surge are told of, all of them, until they last so long that they become
        // normal.
        let again = self.since <= FORGIVEN && self.age <= FROZEN;
        let known = if again { 0.0 } else { self.known.per_s() };
        self.level_at(self.config.sensitivity, known)
    }

    /// The arrivals of the next lap that begin, and those of 2 s that end it, when the multiple
    /// `asked` is passed, and the rate `known`.
    fn level_at(&self, asked: f64, known: f64) -> (u32, f64) {
        let base = self.baseline.per_s();
        let noise = self.baseline.noise() * base;
        let asked = asked * base;
        let spread = |rate: f64| (self.baseline.fano() * rate).sqrt();
        let known_or_asked = asked.max(known);
        let reached = asked.max(noise);
        let over = base + reached + OVER * spread(reached) * core::f64::consts::SQRT_2;
        let noise = noise.max((HIDDEN * base).min(asked));
        let (wide, noisy) = (spread(known_or_asked), SIGMAS * spread(noise));
        let excess = self.excess();
        let mut least = f64::INFINITY;
        let windows = self.ring.windows().into_iter().zip(ROOTS).zip(SURE);
        for (((span, _, kept), root), sure) in windows {
            let level = (known_or_asked * span + sure * wide * root)
                .max(noise * span + noisy * root)
                .max(base * span + excess)
                .max(0.5 * over * span);
            // Below 2⁵³, so exact.
            least = least.min(level - kept as f64);
        }
        // The first whole number above the level; the cast goes down, and saturates.
        let count = if least < 0.0 {
            0
        } else {
            (least as u32).saturating_add(1)
        };
        (count, over)
    }

    /// Appends all that was learned, in about 1.5 KiB; the configuration is no part of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        self.laps.encode(out);
        self.baseline.encode(out);
        self.drift.encode(out);
        self.known.encode(out);
        out.put([u8::from(self.surge), u8::from(self.watch)]);
        out.put_u32s([self.surge_clear, self.watch_clear]);
        out.put_u32s([self.hold, self.since, self.age]);
        out.put(self.began.as_nanos().to_le_bytes());
        out.put(self.peak.to_le_bytes());
        self.ring.encode(out);
    }

    /// Reads what was learned, to go on with `config`.
    ///
    /// # Errors
    /// Whatever [`encode`](Self::encode) of this version cannot have written; any bytes are safe.
    pub fn decode(bytes: &[u8], config: DetectorConfig) -> Result<Self, MemoryError> {
        let mut reader = Reader(bytes);
        let detector = Self::read(&mut reader, config)?;
        reader.end()?;
        Ok(detector)
    }

    /// Reads it from the front of more.
    pub(crate) fn read(
        bytes: &mut Reader<'_>,
        config: DetectorConfig,
    ) -> Result<Self, MemoryError> {
        bytes.magic(MAGIC)?;
        Ok(Self {
            laps: Laps::decode(bytes)?,
            baseline: Baseline::decode(bytes)?,
            drift: Drift::decode(bytes)?,
            known: Known::decode(bytes)?,
            surge: bytes.flag()?,
            watch: bytes.flag()?,
            surge_clear: bytes.u32()?,
            watch_clear: bytes.u32()?,
            hold: bytes.u32()?.clamp(HOLD, HOLD_MOST),
            since: bytes.u32()?,
            age: bytes.u32()?,
            began: Timestamp::from_nanos(bytes.u64()?),
            peak: bytes.u64()?.min(MOST_PER_S as u64 * 2),
            ring: Ring::decode(bytes)?,
            ..Self::new(config)
        })
    }
}

/// The square roots of the windows' spans in s.
const ROOTS: [f64; WINDOWS.len()] = [
    core::f64::consts::FRAC_1_SQRT_2,
    1.0,
    core::f64::consts::SQRT_2,
    2.0 * core::f64::consts::SQRT_2,
    4.0,
    4.0 * core::f64::consts::SQRT_2,
];
const _: () = assert!(LEAST > 0.0, "a ratio divides by the baseline");
