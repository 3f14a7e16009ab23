//! A rule without a limit, and a trace that counts arrivals of nobody in particular: nothing is
//! decided, and the arrivals alone can be a surge.

use std::time::Duration;

use tidegate::{
    engine::{Changes, Detector, DetectorConfig, Phase, Timestamp, Upstream},
    event::Tenths,
};

use super::{
    clock::{IDLE, LONG, lap_after, within},
    found::{Found, Standing, seconds},
};

/// A quiet rule is looked at this often, and two things about it are told this far apart.
const QUIET: Duration = Duration::from_secs(1);
/// A surge is told so long after it began.
const GATHER: Duration = Duration::from_millis(300);

/// The detector of one rule, as a lone worker drives it.
///
/// Cost: that of the detector a lap, whatever arrives in it.
pub struct Plain {
    detector: Detector,
    phase: Phase,
    /// Arrivals since the last look, and whether they were judged before it.
    counted: u32,
    hurried: bool,
    started: bool,
    now: Timestamp,
    next_tick: Timestamp,
    looked: Timestamp,
    untold: Untold,
    found: Found,
}

impl Plain {
    /// Of a rule with that name.
    pub fn new(name: &str, surge: DetectorConfig) -> Self {
        Self {
            detector: Detector::new(surge),
            phase: Phase::WarmUp,
            counted: 0,
            hurried: true,
            started: false,
            now: Timestamp::ZERO,
            next_tick: Timestamp::ZERO,
            looked: Timestamp::ZERO,
            untold: Untold::default(),
            found: Found::new(name),
        }
    }

    /// Lets time pass until `to`, and brings the next tick to the end of its lap.
    fn advance(&mut self, to: Timestamp) {
        if !self.started {
            self.started = true;
            self.now = to;
            self.next_tick = lap_after(to);
        }
        if to.since(self.now) > LONG {
            self.run(self.now.after(IDLE));
            self.jump(to);
        }
        self.run(to);
        self.now = self.now.max(to);
        self.next_tick = self.next_tick.min(lap_after(self.now));
    }

    /// Goes on at `to`; of what was between nothing is known.
    pub fn jump(&mut self, to: Timestamp) {
        if self.started && to > self.now {
            self.now = to;
            self.next_tick = lap_after(to);
        }
    }

    fn run(&mut self, to: Timestamp) {
        while self.next_tick <= to {
            self.tick(self.next_tick);
        }
    }

    /// Lets `many` arrive in the lap that begins at `start`, evenly.
    pub fn arrive(&mut self, start: Timestamp, many: u32) {
        self.advance(start);
        let before = self.counted;
        self.counted = before.saturating_add(many);
        self.found.pass(many);
        if many > 0 && !self.hurried && self.detector.trips(self.counted) {
            let tripping = self.detector.trip_count().saturating_sub(before).max(1);
            self.hurry(
                before.saturating_add(tripping),
                within(start, tripping - 1, many),
            );
        }
    }

    /// So many arrivals since the last look are a surge by themselves.
    fn hurry(&mut self, running: u32, now: Timestamp) {
        self.hurried = true;
        let changes = self.detector.notice(running, now);
        self.note(changes, now);
    }

    /// The end of a lap.
    fn tick(&mut self, now: Timestamp) {
        self.now = now;
        let arrivals = std::mem::take(&mut self.counted);
        let quiet = arrivals == 0 && self.is_calm() && now.since(self.looked) < QUIET;
        if !quiet {
            self.looked = now;
            let before = self.phase == Phase::Surge;
            let mut changes = self.detector.tick(arrivals, now, Upstream::AtEase);
            let after = self.detector.phase() == Phase::Surge;
            if before || after {
                changes.surge_began = after && !before;
                changes.surge_ended = before && !after;
            }
            self.hurried = false;
            self.note(changes, now);
        }
        let baseline = self.detector.baseline_per_s();
        self.found.series.add(now, arrivals, baseline);
        self.next_tick = if self.is_calm() {
            now.after(IDLE)
        } else {
            lap_after(now)
        };
    }

    fn is_calm(&self) -> bool {
        matches!(self.phase, Phase::Calm | Phase::WarmUp)
    }

    fn note(&mut self, changes: Changes, now: Timestamp) {
        self.phase = self.detector.phase();
        let standing = Standing {
            phase: self.phase,
            began: changes.surge_began,
            rate_per_s: self.detector.rate_per_s(),
            baseline_per_s: self.detector.baseline_per_s(),
        };
        self.found.note(&standing, now);
        if self.untold.warns(changes, self.phase == Phase::Surge, now) {
            self.found.drift_warnings.push(Tenths(seconds(now)));
        }
    }

    /// Ends the trace at `end`.
    pub fn finish(mut self, end: Timestamp) -> Found {
        if self.started {
            // The lap that the end is in is told, too.
            let last = Timestamp::from_nanos(end.as_nanos().saturating_sub(1));
            self.advance(last);
            self.run(lap_after(last));
        }
        self.found
    }
}

/// What was not told yet: as the plugin's own, for a drift warning waits for its turn.
#[derive(Debug, Default)]
struct Untold {
    started: bool,
    ended: bool,
    drift: bool,
    began: Timestamp,
    told: Timestamp,
}

impl Untold {
    /// Takes what changed; whether it is time for a drift warning.
    fn warns(&mut self, changes: Changes, surge: bool, now: Timestamp) -> bool {
        if changes.surge_began {
            self.began = now;
            self.started = true;
        }
        self.ended |= changes.surge_ended;
        self.drift |= changes.drift_began;
        if !(self.started || self.ended || self.drift) || now.since(self.told) < QUIET {
            return false;
        }
        let turn = if self.started {
            if now.since(self.began) < GATHER {
                return false;
            }
            &mut self.started
        } else if self.ended && !surge {
            &mut self.ended
        } else if self.drift {
            self.drift = false;
            self.told = now;
            return true;
        } else {
            return false;
        };
        *turn = false;
        self.told = now;
        false
    }
}
