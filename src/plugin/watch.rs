//! How the detector of a rule is fed, and what it says to the operator.

use alloc::{format, string::String};

use super::{
    callers::Whom,
    gates::PREFIX,
    host::{self, Level, SharedData},
    matching::Kind,
    metrics::Metrics,
};
use crate::{
    config::Key,
    engine::{
        Answers, DetectorConfig, Fault, Lookout, Notice, Phase, Report, Tally, TideRecord,
        Timestamp, Totals, WorkerId,
    },
    event::{Event, Rfc3339, Tenths},
    store::SharedRecord,
};

/// When and where something is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub now: Timestamp,
    pub worker: WorkerId,
    /// What all workers had when this one looked last.
    pub seen: Totals,
    pub metrics: &'a Metrics,
}

/// One worker's watch over the arrivals of a rule.
#[derive(Debug)]
pub struct Watch {
    name: String,
    key: String,
    setting: DetectorConfig,
    inflight_limit: u32,
    lookout: Lookout,
    whom: Whom,
    /// How many more ends of requests are looked at, before it is one in [`ONE_IN`] again.
    curious: u32,
    ended: u32,
}

/// Of requests that end, one in so many is looked at while all is well.
const ONE_IN: u32 = 8;
/// After one that ended badly, so many are all looked at.
const CURIOUS: u32 = 64;

impl Watch {
    /// Of a rule.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            key: format!("{PREFIX}/{name}/tide"),
            setting: DetectorConfig::default(),
            inflight_limit: 0,
            lookout: Lookout::default(),
            whom: Whom::new(name),
            curious: 0,
            ended: 0,
        }
    }

    /// Takes what the newest configuration says, and makes sure that the record exists.
    pub fn configure(&mut self, setting: DetectorConfig, inflight_limit: u32) {
        self.setting = setting;
        self.inflight_limit = inflight_limit;
        let mut shared = SharedData;
        let _ = tide(&mut shared, &self.key, setting).begin();
    }

    /// Counts an arrival; when it makes a surge, that is said at once.
    pub fn on_arrival(&mut self, key: &Key, kind: Kind, at: Moment<'_>) {
        self.whom.on_arrival(key, kind, self.lookout.phase());
        if !self.lookout.on_arrival() {
            return;
        }
        let mut shared = SharedData;
        let mut tide = tide(&mut shared, &self.key, self.setting);
        let report = self.lookout.hurry(at.now, &mut tide);
        let replaced = tide.replaced();
        self.show(report.map(Some), replaced, at);
    }

    /// Whether it is worth its microsecond to ask how a stream ended.
    pub fn looks(&mut self, kind: Kind) -> bool {
        self.ended = self.ended.wrapping_add(1);
        kind == Kind::Tcp || self.curious > 0 || self.ended.is_multiple_of(ONE_IN)
    }

    /// Counts how the upstream took it.
    pub fn on_answers(&mut self, answers: Answers, metrics: &Metrics) {
        self.curious = if answers.bad() > 0 {
            CURIOUS
        } else {
            self.curious.saturating_sub(1)
        };
        metrics.upstream_refused(answers.bad());
        self.lookout.on_answers(answers);
    }

    /// A caller came that is known from what it sent first.
    #[cfg(feature = "inspect")]
    pub fn on_caller(&mut self, caller: &[u8]) {
        self.whom.count(caller, 1);
    }

    /// Tells the others what was seen, and the operator what all have seen.
    pub fn on_tick(&mut self, tally: &Tally, at: Moment<'_>) {
        self.lookout.on_tally(tally);
        let open = at.seen.open + at.seen.ghosts;
        let limit = u64::from(self.inflight_limit);
        // The last tenth of the places, or somebody who found none.
        let saturated = at.seen.waiting > 0 || limit > 0 && open * 10 >= limit * 9;
        let mut shared = SharedData;
        let mut tide = tide(&mut shared, &self.key, self.setting);
        let report = self.lookout.on_tick(at.now, open, saturated, &mut tide);
        let replaced = tide.replaced();
        self.whom.on_tick(at.now, self.lookout.phase(), at.worker);
        self.show(report, replaced, at);
    }

    /// Whether nothing is going on.
    pub fn is_idle(&self) -> bool {
        matches!(self.lookout.phase(), Phase::Calm | Phase::WarmUp)
    }

    fn show(&self, report: Result<Option<Report>, Fault>, replaced: bool, at: Moment<'_>) {
        if replaced {
            at.metrics.fault(Fault::RecordReplaced);
        }
        match report {
            Ok(None) => {}
            Ok(Some(report)) => {
                at.metrics.show_report(&report);
                if let Some(notice) = report.notice {
                    host::log(Level::Warn, &self.event(&notice, &report, at).line());
                }
            }
            Err(fault) => at.metrics.fault(fault),
        }
    }

    fn event(&self, notice: &Notice, report: &Report, moment: Moment<'_>) -> Event<'_> {
        let (rule, at) = (self.name.as_str(), Rfc3339(moment.now));
        let inflight = moment.seen.open + moment.seen.ghosts;
        let rate_per_s = Tenths(report.rate_per_s);
        let baseline_per_s = Tenths(report.baseline_per_s);
        match *notice {
            Notice::SurgeStarted { signal, ratio } => {
                let (spread, callers) = self.whom.culprits(moment.now, moment.worker);
                Event::SurgeStarted {
                    rule,
                    at,
                    rate_per_s,
                    baseline_per_s,
                    ratio: Tenths(ratio),
                    inflight,
                    inflight_limit: self.inflight_limit,
                    signal: signal.label(),
                    spread: spread.name(),
                    callers,
                }
            }
            Notice::SurgeEnded {
                lasted,
                peak_per_s,
                rejected,
                held,
            } => Event::SurgeEnded {
                rule,
                at,
                duration_s: Tenths(lasted.as_secs_f64()),
                peak_per_s: Tenths(peak_per_s),
                baseline_per_s,
                rejected,
                held,
            },
            Notice::UpstreamRefusing { bad } => Event::UpstreamRefusing {
                rule,
                at,
                refused: bad,
                inflight,
            },
            Notice::Drift => Event::DriftWarning {
                rule,
                at,
                rate_per_s,
                baseline_per_s,
            },
        }
    }
}

fn tide<'a>(
    shared: &'a mut SharedData,
    key: &'a str,
    setting: DetectorConfig,
) -> SharedRecord<'a, SharedData, TideRecord> {
    SharedRecord::new(shared, key, setting)
}
