//! What the workers know together about the arrivals of one rule.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    adaptive::{Adaptive, Failing, Moved},
    alarm::{Alarm, Seen},
    bytes::{MemoryError, Put, Reader},
    decision::{Fault, Reason},
    distress::{Answers, Patience},
    hot::{Cut, Cuts, Heat},
    record::{Change, Record, Shared},
    share::{Lap, Share},
    surge::{Changes, DetectorConfig, Phase},
    tally::Tally,
    time::Timestamp,
};

/// Arrivals that were refused, by [`Reason::index`].
pub type Rejected = [u32; Reason::ALL.len()];

const MAGIC: [u8; 4] = *b"TGT\x07";

/// Two lines about a rule are at least this far apart.
const QUIET: Duration = Duration::from_secs(1);
/// A surge is announced so long after it began, when every worker has said whom it saw.
const GATHER: Duration = Duration::from_millis(300);

/// An upstream that goes on refusing, or begins anew, is told of this often at most.
const REFUSING: Duration = Duration::from_secs(10);

/// After there was no room for a surge, so long may still be shed for it, and be raised from there:
/// shedding itself makes room.
const SHEDS_ON: Duration = Duration::from_secs(2);
/// A lap, in ms, and the laps between two looks at who is hot.
const LAP_MS: u64 = 100;
const CUT_LAPS: u64 = 2;

/// A worker that counts by its last tick is this far behind another one at most.
const BEHIND: Duration = Duration::from_secs(1);

fn add(sums: &mut Rejected, more: &Rejected) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

/// Whether `span` has passed since `then`. For a worker that is a little behind it has not; a clock
/// that stepped back further is not waited for.
fn passed(then: Timestamp, now: Timestamp, span: Duration) -> bool {
    if now >= then {
        now.since(then) >= span
    } else {
        then.since(now) > BEHIND
    }
}

/// What one worker saw since it told the others last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Arrivals, whatever became of them.
    pub arrivals: u32,
    /// Those that were refused.
    pub rejected: Rejected,
    /// Those that had to wait.
    pub held: u32,
    /// Those that lacked what everybody may have.
    pub pressure: u32,
    /// Those that were shed for a surge.
    pub shed: u32,
    /// How the upstream took what was looked at.
    pub answers: Answers,
}

/// How a rule stands with its limit, as a worker knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many all workers have open.
    pub open: u64,
    /// How many wait, or lacked a slot in the last moment.
    pub waiting: u64,
    /// The configured inflight limit; 0: none.
    pub limit: u32,
    /// The limit is lowered while the upstream is in distress.
    pub adaptive: bool,
}

impl Standing {
    /// Whether the last tenth of the slots is in use, of `part` of the limit, or anybody waits.
    fn is_saturated(&self, part: f32) -> bool {
        let limit = f64::from(self.limit) * f64::from(part);
        self.waiting > 0 || self.limit > 0 && self.open as f64 * 10.0 >= limit * 9.0
    }

    /// What part of the slots is in use or waited for, of `part` of the limit; none without one.
    fn used(&self, part: f32) -> Option<f32> {
        let limit = f64::from(self.limit) * f64::from(part);
        (limit > 0.0).then(|| ((self.open as f64 + self.waiting as f64) / limit) as f32)
    }
}

/// What is abnormal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The arrival rate.
    Arrivals,
    /// The number that is open.
    Inflight,
}

impl Signal {
    /// As the events write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Arrivals => "arrivals",
            Self::Inflight => "inflight",
        }
    }
}

/// Something that the operator is to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notice {
    /// A surge began, about a third of a second ago.
    SurgeStarted {
        /// What is abnormal.
        signal: Signal,
        /// The highest multiple of the arrivals' baseline in any window.
        ratio: f64,
    },
    /// It is over.
    SurgeEnded {
        /// How long it lasted.
        lasted: Duration,
        /// The highest rate a second, over 2 s.
        peak_per_s: f64,
        /// Refused while it lasted.
        rejected: Rejected,
        /// Held while it lasted.
        held: u64,
    },
    /// The rate has climbed slowly, far above its remembered peak.
    Drift,
    /// The upstream refuses, is slow to connect or says nothing.
    UpstreamRefusing {
        /// How many ended like that since the last notice of this kind.
        bad: u64,
    },
    /// The inflight limit was lowered, because the upstream is in distress.
    LimitLowered {
        /// To that.
        limit: u32,
    },
    /// It climbed back, a step or all the way.
    LimitRaised {
        /// To that.
        limit: u32,
    },
}

/// How things stand, and what is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What the arrivals are like.
    pub phase: Phase,
    /// Arrivals a second over the last 2 s.
    pub rate_per_s: f64,
    /// The learned normal rate.
    pub baseline_per_s: f64,
    /// So many more arrivals until the next call are a surge.
    pub trip_count: u32,
    /// Surges that began with this call.
    pub surges: u32,
    /// The upstream is in distress.
    pub distressed: bool,
    /// A surge for which arrivals may be shed: the upstream has no room for it, too.
    pub may_shed: bool,
    /// The share of the users that is served, from 0.02 to 1.
    pub share: f32,
    /// The part of the configured inflight limit that is in force, from 0.1 to 1.
    pub limit_part: f32,
    /// The callers that are cut.
    pub cuts: Vec<Cut>,
    /// This worker is to find out who is hot, and to [tell](TideRecord::cut) the others.
    pub look_for_hot: bool,
    /// From when on the upstream is slow or silent.
    pub patience: Patience,
    /// What is to be told now; by this worker, and nobody else.
    pub notice: Option<Notice>,
}

impl Report {
    /// The inflight limit that is in force, when `limit` is configured; at least 1.
    pub fn limit_in_force(&self, limit: u32) -> u32 {
        in_force(limit, self.limit_part)
    }
}

/// A part of a limit, rounded down; a limit stays one.
pub(crate) fn in_force(limit: u32, part: f32) -> u32 {
    // The cast saturates.
    ((limit as f32 * part) as u32).clamp(limit.min(1), limit)
}

/// One worker's part in what all of them know.
///
/// An arrival is an increment and a comparison.
#[derive(Clone, Debug)]
pub struct Lookout {
    sighting: Sighting,
    /// So many are a surge by themselves; `u32::MAX` when it is not known, or known to all.
    trip_count: u32,
    phase: Phase,
    /// Less than everything is let through.
    regulated: bool,
    patience: Patience,
    last: Timestamp,
}

impl Default for Lookout {
    fn default() -> Self {
        Self {
            sighting: Sighting::default(),
            trip_count: u32::MAX,
            phase: Phase::WarmUp,
            regulated: false,
            patience: Patience::default(),
            last: Timestamp::ZERO,
        }
    }
}

impl Lookout {
    /// Counts an arrival. Whether that is a surge by itself, so that the others should
    /// [hear of it](Self::hurry) now.
    #[inline]
    pub fn on_arrival(&mut self) -> bool {
        self.on_arrivals(1)
    }

    /// So many more arrivals are a surge by themselves.
    pub fn left(&self) -> u32 {
        self.trip_count.saturating_sub(self.sighting.arrivals)
    }

    /// As [`on_arrival`](Self::on_arrival), for many.
    #[inline]
    pub fn on_arrivals(&mut self, many: u32) -> bool {
        self.sighting.arrivals = self.sighting.arrivals.saturating_add(many);
        self.sighting.arrivals >= self.trip_count
    }

    /// Counts what was refused and what had to wait.
    pub fn on_tally(&mut self, tally: &Tally) {
        let Sighting {
            rejected,
            held,
            pressure,
            shed,
            ..
        } = &mut self.sighting;
        add(rejected, &tally.rejected);
        *held = held.saturating_add(tally.held);
        *pressure = pressure.saturating_add(tally.pressure);
        *shed = shed.saturating_add(tally.shed);
    }

    /// Counts how the upstream took something.
    pub fn on_answers(&mut self, answers: Answers) {
        self.sighting.answers.add(answers);
    }

    /// What the arrivals were like when this worker looked last.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// From when on the upstream is slow or silent, by what this worker has learned last.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Says at once that this is a surge.
    ///
    /// # Errors
    /// As the record's store; it is tried again at the tick.
    pub fn hurry(
        &mut self,
        now: Timestamp,
        shared: &mut impl Shared<TideRecord>,
    ) -> Result<Report, Fault> {
        let running = self.sighting.arrivals;
        self.trip_count = u32::MAX;
        let report = shared.update(|record| Change::Write(record.hurry(running, now)))?;
        self.phase = report.phase;
        Ok(report)
    }

    /// Tells what was seen, and learns how things stand; about every 100 ms. Nothing when there is
    /// nothing to tell and nothing to be expected.
    ///
    /// # Errors
    /// As the record's store; what was seen is told at the next tick.
    pub fn on_tick(
        &mut self,
        now: Timestamp,
        standing: Standing,
        shared: &mut impl Shared<TideRecord>,
    ) -> Result<Option<Report>, Fault> {
        let quiet = self.sighting == Sighting::default()
            && standing.open == 0
            && matches!(self.phase, Phase::Calm | Phase::WarmUp)
            && !self.regulated;
        if quiet && now >= self.last && now.since(self.last) < QUIET {
            return Ok(None);
        }
        self.last = now;
        let sighting = self.sighting;
        let report = shared.update(|record| Change::Write(record.see(&sighting, standing, now)))?;
        self.sighting = Sighting::default();
        self.trip_count = report.trip_count;
        self.phase = report.phase;
        self.regulated = report.share < 1.0 || report.limit_part < 1.0 || !report.cuts.is_empty();
        self.patience = report.patience;
        Ok(Some(report))
    }
}

/// What was not told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Untold {
    started: bool,
    ended: bool,
    drift: bool,
    refusing: bool,
    lowered: bool,
    raised: bool,
}

/// What the workers know together about one rule: whether its arrivals, what is open and how it
/// ends are normal, and the surge that goes on. It outlives a worker and a configuration.
///
/// It is a surge when the arrivals or the open ones are abnormal.
///
/// Every worker adds what it saw at its tick of 100 ms; whoever adds the first of a lap closes the
/// one before, and so decides for all: also what share of the users is served, which hot callers are
/// cut, and how far the inflight limit is lowered. Cost: some µs a tick. Memory: 2.4 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct TideRecord {
    alarm: Alarm,
    /// When the surge of either signal began, and its signal.
    began: Timestamp,
    by_inflight: bool,
    /// Bad endings, and when they were told last.
    bad: u64,
    bad_told: Timestamp,
    rejected: Rejected,
    held: u64,
    told: Timestamp,
    untold: Untold,
    share: Share,
    cuts: Cuts,
    /// Whether those who are cut make most of the surge, so that the others need not suffer for it.
    culprit: bool,
    adaptive: Adaptive,
    failing: Failing,
    /// When a surge was last one to shed for.
    shed: Timestamp,
    /// The number of the running lap since the epoch, and what it brought: arrivals that were not
    /// shed, those of them that lacked what everybody may have, and whether there were bad answers.
    lap: u64,
    came: u32,
    pressure: u32,
    suffered: bool,
    /// The lap in which somebody looked for hot callers.
    cut: u64,
    /// The configured inflight limit.
    limit: u32,
}

impl TideRecord {
    /// Adds what a worker saw, and how the rule stands.
    pub fn see(&mut self, sighting: &Sighting, standing: Standing, now: Timestamp) -> Report {
        let before = self.alarm.distress().is_distressed();
        let seen = Seen {
            arrivals: sighting.arrivals,
            open: u32::try_from(standing.open).unwrap_or(u32::MAX),
            answers: sighting.answers,
            saturated: standing.is_saturated(self.adaptive.part()),
        };
        let changes = self.alarm.tick(seen, now);
        self.bad = self.bad.saturating_add(u64::from(sighting.answers.bad()));
        self.untold.refusing |= self.alarm.distress().is_distressed() && !before;
        self.book(sighting, changes, now);
        let came = sighting.arrivals.saturating_sub(sighting.shed);
        self.came = self.came.saturating_add(came);
        self.pressure = self.pressure.saturating_add(sighting.pressure);
        let Answers { good, failed, .. } = sighting.answers;
        self.suffered |= sighting.answers.bad() > failed;
        self.suffered |= self.failing.in_part(good > 0, failed > 0, now);
        let look = self.regulate(standing, now);
        Report {
            look_for_hot: look,
            ..self.report(changes, now)
        }
    }

    /// Takes who is hot, from the worker that was asked to find out.
    pub fn cut(&mut self, hot: &[Heat]) {
        self.cuts.step(hot);
        if !hot.is_empty() {
            let detector = &self.alarm.detector;
            let excess = detector.rate_per_s() - detector.baseline_per_s();
            self.culprit = hot.iter().map(Heat::excess_per_s).sum::<f64>() * 2.0 >= excess;
        }
        self.culprit &= !self.cuts.get().is_empty();
    }

    /// Closes the lap before this one; whether to look for hot callers.
    fn regulate(&mut self, standing: Standing, now: Timestamp) -> bool {
        if self.alarm.may_shed() {
            self.shed = now;
        }
        let lap = now.as_millis() / LAP_MS;
        if lap == core::mem::replace(&mut self.lap, lap) {
            return false;
        }
        self.limit = standing.limit;
        let sheds = self.sheds(now);
        self.share.lap(&Lap {
            sheds,
            surge: self.alarm.phase() == Phase::Surge,
            came: core::mem::take(&mut self.came),
            excused: self.culprit || self.alarm.serves_nobody(now),
            refused: core::mem::take(&mut self.pressure),
            open: standing.open,
            used: standing.used(self.adaptive.part()),
        });
        let suffered = core::mem::take(&mut self.suffered);
        if standing.adaptive && standing.limit > 0 {
            let distressed = self.alarm.distress().is_distressed();
            let before = in_force(standing.limit, self.adaptive.part());
            let moved = self
                .adaptive
                .lap(distressed, suffered, standing.open, standing.limit, now);
            // A step of less than one slot is none that anybody sees.
            let seen = in_force(standing.limit, self.adaptive.part()) != before;
            self.untold.lowered |= seen && moved == Some(Moved::Down);
            self.untold.raised |= seen && moved == Some(Moved::Up);
        } else {
            self.adaptive = Adaptive::default();
        }
        let due = lap.abs_diff(self.cut) >= CUT_LAPS;
        let look = due && (sheds || !self.cuts.get().is_empty());
        if look {
            self.cut = lap;
        }
        look
    }

    /// Whether arrivals may be shed for a surge, or might have been a moment ago.
    fn sheds(&self, now: Timestamp) -> bool {
        self.alarm.phase() == Phase::Surge && !passed(self.shed, now, SHEDS_ON)
    }

    /// A worker saw as many since its last tick as are a surge. What it saw is added at the tick.
    pub fn hurry(&mut self, running: u32, now: Timestamp) -> Report {
        let changes = self.alarm.notice(running, now);
        self.book(&Sighting::default(), changes, now);
        self.report(changes, now)
    }

    /// What was learned.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    fn book(&mut self, sighting: &Sighting, changes: Changes, now: Timestamp) {
        if changes.surge_began {
            self.began = now;
            self.by_inflight = self.alarm.detector.phase() != Phase::Surge;
            (self.rejected, self.held) = (Rejected::default(), 0);
            self.untold.started = true;
        }
        if self.untold.started || self.untold.ended || self.alarm.phase() == Phase::Surge {
            add(&mut self.rejected, &sighting.rejected);
            self.held = self.held.saturating_add(u64::from(sighting.held));
        }
        self.untold.ended |= changes.surge_ended;
        self.untold.drift |= changes.drift_began;
    }

    fn report(&mut self, changes: Changes, now: Timestamp) -> Report {
        Report {
            phase: self.alarm.phase(),
            rate_per_s: self.alarm.detector.rate_per_s(),
            baseline_per_s: self.alarm.detector.baseline_per_s(),
            trip_count: self.alarm.trip_count(),
            surges: u32::from(changes.surge_began),
            distressed: self.alarm.distress().is_distressed(),
            may_shed: self.sheds(now),
            share: self.share.get(),
            limit_part: self.adaptive.part(),
            cuts: self.cuts.get().to_vec(),
            look_for_hot: false,
            patience: self.alarm.distress().patience(),
            notice: self.notice(now),
        }
    }

    /// Whether a worker may say something else about the rule now, so that no two lines of it are
    /// less than a second apart; it counts as said then.
    pub fn may_say(&mut self, now: Timestamp) -> bool {
        let free = passed(self.told, now, QUIET) && self.untold == Untold::default();
        if free {
            self.told = now;
        }
        free
    }

    /// The next thing that is to be told, if it is time.
    fn notice(&mut self, now: Timestamp) -> Option<Notice> {
        if !passed(self.told, now, QUIET) {
            return None;
        }
        let gathered = passed(self.began, now, GATHER);
        let refuses = self.untold.refusing || self.alarm.distress().is_distressed();
        let notice = if self.untold.started && gathered {
            self.untold.started = false;
            Notice::SurgeStarted {
                signal: if self.by_inflight {
                    Signal::Inflight
                } else {
                    Signal::Arrivals
                },
                ratio: self.alarm.detector.ratio(),
            }
        } else if self.untold.started {
            return None;
        } else if self.untold.ended && self.alarm.phase() != Phase::Surge {
            self.untold.ended = false;
            Notice::SurgeEnded {
                lasted: now.since(self.began),
                peak_per_s: self.alarm.detector.peak_per_s(),
                rejected: self.rejected,
                held: self.held,
            }
        } else if refuses && passed(self.bad_told, now, REFUSING) {
            self.untold.refusing = false;
            self.bad_told = now;
            Notice::UpstreamRefusing {
                bad: core::mem::take(&mut self.bad),
            }
        } else if self.untold.lowered {
            self.untold.lowered = false;
            Notice::LimitLowered {
                limit: in_force(self.limit, self.adaptive.part()),
            }
        } else if self.untold.raised {
            self.untold.raised = false;
            Notice::LimitRaised {
                limit: in_force(self.limit, self.adaptive.part()),
            }
        } else if self.untold.drift {
            self.untold.drift = false;
            Notice::Drift
        } else {
            return None;
        };
        self.told = now;
        Some(notice)
    }

    fn read(bytes: &[u8], setting: DetectorConfig) -> Result<Self, MemoryError> {
        let mut bytes = Reader(bytes);
        bytes.magic(MAGIC)?;
        let record = Self {
            began: Timestamp::from_nanos(bytes.u64()?),
            by_inflight: bytes.flag()?,
            bad: bytes.u64()?,
            bad_told: Timestamp::from_nanos(bytes.u64()?),
            held: bytes.u64()?,
            told: Timestamp::from_nanos(bytes.u64()?),
            rejected: bytes.u32s()?,
            untold: Untold {
                started: bytes.flag()?,
                ended: bytes.flag()?,
                drift: bytes.flag()?,
                refusing: bytes.flag()?,
                lowered: bytes.flag()?,
                raised: bytes.flag()?,
            },
            share: Share::read(&mut bytes)?,
            cuts: Cuts::read(&mut bytes)?,
            culprit: bytes.flag()?,
            adaptive: Adaptive::read(&mut bytes)?,
            failing: Failing::read(&mut bytes)?,
            shed: Timestamp::from_nanos(bytes.u64()?),
            lap: bytes.u64()?,
            came: bytes.u32()?,
            pressure: bytes.u32()?,
            suffered: bytes.flag()?,
            cut: bytes.u64()?,
            limit: bytes.u32()?,
            alarm: Alarm::read(&mut bytes, setting)?,
        };
        bytes.end()?;
        Ok(record)
    }
}

impl Record for TideRecord {
    type Setting = DetectorConfig;

    fn fresh(setting: DetectorConfig) -> Self {
        Self {
            alarm: Alarm::new(setting),
            began: Timestamp::ZERO,
            by_inflight: false,
            bad: 0,
            bad_told: Timestamp::ZERO,
            rejected: Rejected::default(),
            held: 0,
            told: Timestamp::ZERO,
            untold: Untold::default(),
            share: Share::default(),
            cuts: Cuts::default(),
            culprit: false,
            adaptive: Adaptive::default(),
            failing: Failing::default(),
            shed: Timestamp::ZERO,
            lap: 0,
            came: 0,
            pressure: 0,
            suffered: false,
            cut: 0,
            limit: 0,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        out.put(self.began.as_nanos().to_le_bytes());
        out.push(u8::from(self.by_inflight));
        for number in [
            self.bad,
            self.bad_told.as_nanos(),
            self.held,
            self.told.as_nanos(),
        ] {
            out.put(number.to_le_bytes());
        }
        out.put_u32s(self.rejected);
        let Untold {
            started,
            ended,
            drift,
            refusing,
            lowered,
            raised,
        } = self.untold;
        out.put([started, ended, drift, refusing, lowered, raised].map(u8::from));
        self.share.encode(out);
        self.cuts.encode(out);
        out.push(u8::from(self.culprit));
        self.adaptive.encode(out);
        self.failing.encode(out);
        out.put(self.shed.as_nanos().to_le_bytes());
        out.put(self.lap.to_le_bytes());
        out.put(self.came.to_le_bytes());
        out.put(self.pressure.to_le_bytes());
        out.push(u8::from(self.suffered));
        out.put(self.cut.to_le_bytes());
        out.put(self.limit.to_le_bytes());
        self.alarm.encode(out);
    }

    fn decode(bytes: &[u8], setting: DetectorConfig) -> Option<Self> {
        Self::read(bytes, setting).ok()
    }
}
