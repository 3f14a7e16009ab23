//! What the workers know together about the arrivals of one rule.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    alarm::{Alarm, Seen},
    bytes::{MemoryError, Put, Reader},
    decision::Fault,
    distress::Answers,
    record::{Change, Record, Shared},
    surge::{Changes, DetectorConfig, Phase},
    tally::Tally,
    time::Timestamp,
};

const MAGIC: [u8; 4] = *b"TGT\x01";

/// Two lines about a rule are at least this far apart.
const QUIET: Duration = Duration::from_secs(1);
/// A surge is announced so long after it began, when every worker has said whom it saw.
const GATHER: Duration = Duration::from_millis(300);

/// An upstream that goes on refusing, or begins anew, is told of this often at most.
const REFUSING: Duration = Duration::from_secs(10);

/// A worker that counts by its last tick is this far behind another one at most.
const BEHIND: Duration = Duration::from_secs(1);

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
    pub rejected: u32,
    /// Those that had to wait.
    pub held: u32,
    /// How the upstream took what was looked at.
    pub answers: Answers,
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
        rejected: u64,
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
}

/// How things stand, and what is to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// What is to be told now; by this worker, and nobody else.
    pub notice: Option<Notice>,
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
    last: Timestamp,
}

impl Default for Lookout {
    fn default() -> Self {
        Self {
            sighting: Sighting::default(),
            trip_count: u32::MAX,
            phase: Phase::WarmUp,
            last: Timestamp::ZERO,
        }
    }
}

impl Lookout {
    /// Counts an arrival. Whether that is a surge by itself, so that the others should
    /// [hear of it](Self::hurry) now.
    pub fn on_arrival(&mut self) -> bool {
        self.sighting.arrivals = self.sighting.arrivals.saturating_add(1);
        self.sighting.arrivals >= self.trip_count
    }

    /// Counts what was refused and what had to wait.
    pub fn on_tally(&mut self, tally: &Tally) {
        let rejected = tally.rejected.iter().sum::<u32>();
        self.sighting.rejected = self.sighting.rejected.saturating_add(rejected);
        self.sighting.held = self.sighting.held.saturating_add(tally.held);
    }

    /// Counts how the upstream took something.
    pub fn on_answers(&mut self, answers: Answers) {
        self.sighting.answers.add(answers);
    }

    /// What the arrivals were like when this worker looked last.
    pub fn phase(&self) -> Phase {
        self.phase
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
        open: u64,
        saturated: bool,
        shared: &mut impl Shared<TideRecord>,
    ) -> Result<Option<Report>, Fault> {
        let quiet = self.sighting == Sighting::default()
            && open == 0
            && matches!(self.phase, Phase::Calm | Phase::WarmUp);
        if quiet && now >= self.last && now.since(self.last) < QUIET {
            return Ok(None);
        }
        self.last = now;
        let sighting = self.sighting;
        let report =
            shared.update(|record| Change::Write(record.see(&sighting, open, saturated, now)))?;
        self.sighting = Sighting::default();
        self.trip_count = report.trip_count;
        self.phase = report.phase;
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
}

/// What the workers know together about one rule: whether its arrivals, what is open and how it
/// ends are normal, and the surge that goes on. It outlives a worker and a configuration.
///
/// It is a surge when the arrivals or the open ones are abnormal.
///
/// Every worker adds what it saw at its tick of 100 ms; whoever adds the first of a lap closes the
/// one before, and so decides for all. Cost: some µs a tick. Memory: 1.9 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct TideRecord {
    alarm: Alarm,
    /// When the surge of either signal began, and its signal.
    began: Timestamp,
    by_inflight: bool,
    /// Bad endings, and when they were told last.
    bad: u64,
    bad_told: Timestamp,
    rejected: u64,
    held: u64,
    told: Timestamp,
    untold: Untold,
}

impl TideRecord {
    /// Adds what a worker saw. `open`: how many all workers have open; `saturated`: whether the
    /// inflight limit is nearly reached, or anybody is held.
    pub fn see(
        &mut self,
        sighting: &Sighting,
        open: u64,
        saturated: bool,
        now: Timestamp,
    ) -> Report {
        let before = self.alarm.distress().is_distressed();
        let seen = Seen {
            arrivals: sighting.arrivals,
            open: u32::try_from(open).unwrap_or(u32::MAX),
            answers: sighting.answers,
            saturated,
        };
        let changes = self.alarm.tick(seen, now);
        self.bad = self.bad.saturating_add(u64::from(sighting.answers.bad()));
        self.untold.refusing |= self.alarm.distress().is_distressed() && !before;
        self.book(sighting, changes, now);
        self.report(changes, now)
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
            (self.rejected, self.held) = (0, 0);
            self.untold.started = true;
        }
        if self.untold.started || self.untold.ended || self.alarm.phase() == Phase::Surge {
            self.rejected = self.rejected.saturating_add(u64::from(sighting.rejected));
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
            may_shed: self.alarm.may_shed(),
            notice: self.notice(now),
        }
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
            rejected: bytes.u64()?,
            held: bytes.u64()?,
            told: Timestamp::from_nanos(bytes.u64()?),
            untold: Untold {
                started: bytes.flag()?,
                ended: bytes.flag()?,
                drift: bytes.flag()?,
                refusing: bytes.flag()?,
            },
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
            rejected: 0,
            held: 0,
            told: Timestamp::ZERO,
            untold: Untold::default(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        out.put(self.began.as_nanos().to_le_bytes());
        out.push(u8::from(self.by_inflight));
        for number in [
            self.bad,
            self.bad_told.as_nanos(),
            self.rejected,
            self.held,
            self.told.as_nanos(),
        ] {
            out.put(number.to_le_bytes());
        }
        let Untold {
            started,
            ended,
            drift,
            refusing,
        } = self.untold;
        out.put([started, ended, drift, refusing].map(u8::from));
        self.alarm.encode(out);
    }

    fn decode(bytes: &[u8], setting: DetectorConfig) -> Option<Self> {
        Self::read(bytes, setting).ok()
    }
}
