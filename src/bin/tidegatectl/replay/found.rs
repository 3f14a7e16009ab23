//! What a replay found about a rule.

use serde::{Serialize, Serializer};
use tidegate::{
    engine::{Decision, Phase, Reason, Signal, Tally, Timestamp},
    event::{Caller, Tenths},
};

use super::series::Series;

/// What a replay found; as JSON, the contract of `--format json`.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub rules: Vec<Found>,
}

/// What it found about one rule.
#[derive(Debug, Serialize)]
pub struct Found {
    pub name: String,
    pub arrivals: u64,
    pub admitted: u64,
    pub held: u64,
    pub redirected: u64,
    pub rejected: u64,
    pub rejected_by_reason: ByReason,
    pub surges: Vec<Surge>,
    pub watches: Vec<Watch>,
    /// When the operator would have been warned of a slow climb.
    pub drift_warnings: Vec<Tenths>,
    #[serde(skip)]
    pub series: Series,
    /// Not every arrival was decided by itself.
    #[serde(skip)]
    pub bundled: bool,
}

/// Refusals by [`Reason`]; as JSON an object of those that occurred.
#[derive(Debug, Default)]
pub struct ByReason([u64; Reason::ALL.len()]);

impl ByReason {
    /// Those that occurred, the most frequent first.
    pub fn most(&self) -> Vec<(Reason, u64)> {
        let mut all: Vec<_> = self.occurred().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }

    fn occurred(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(self.0)
            .filter(|(_, count)| *count > 0)
    }
}

impl Serialize for ByReason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            self.occurred()
                .map(|(reason, count)| (reason.label(), count)),
        )
    }
}

/// A surge. Times are Unix seconds.
#[derive(Debug, Serialize)]
pub struct Surge {
    pub start: Tenths,
    /// None while it lasts.
    pub end: Option<Tenths>,
    /// The highest rate over 2 s.
    pub peak_per_s: Tenths,
    /// The normal rate when it began.
    pub baseline_per_s: Tenths,
    /// The peak as a multiple of that.
    pub ratio: Tenths,
    /// `one_caller`, `few_callers` or `everybody`; none where the trace names nobody.
    pub spread: Option<&'static str>,
    /// Who was behind it when it began, at most five.
    pub callers: Vec<Caller>,
    /// What is open is abnormal, and not what arrives.
    #[serde(skip)]
    pub by_inflight: bool,
    /// Who is behind it was looked at.
    #[serde(skip)]
    pub told: bool,
}

/// A stretch of more than normal that was no surge yet. Times are Unix seconds.
#[derive(Debug, Serialize)]
pub struct Watch {
    pub start: Tenths,
    pub end: Option<Tenths>,
}

/// How a rule stands at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub phase: Phase,
    /// A surge began just now.
    pub began: bool,
    /// Arrivals a second over the last 2 s.
    pub rate_per_s: f64,
    pub baseline_per_s: f64,
}

/// Unix seconds.
pub fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

impl Found {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arrivals: 0,
            admitted: 0,
            held: 0,
            redirected: 0,
            rejected: 0,
            rejected_by_reason: ByReason::default(),
            surges: Vec::new(),
            watches: Vec::new(),
            drift_warnings: Vec::new(),
            series: Series::default(),
            bundled: false,
        }
    }

    /// Counts what happened.
    pub fn count(&mut self, tally: &Tally) {
        self.arrivals += u64::from(tally.arrivals);
        self.admitted += u64::from(tally.admitted);
        self.held += u64::from(tally.held);
        self.redirected += u64::from(tally.redirected);
        for (sum, more) in self.rejected_by_reason.0.iter_mut().zip(tally.rejected) {
            *sum += u64::from(more);
            self.rejected += u64::from(more);
        }
    }

    /// Counts some that are admitted without being asked for.
    pub fn pass(&mut self, many: u32) {
        self.arrivals += u64::from(many);
        self.admitted += u64::from(many);
    }

    /// Counts so many more that share the fate of one that is in a tally.
    pub fn follow(&mut self, decision: Decision, many: u32) {
        let many = u64::from(many);
        match decision {
            Decision::Admit => self.admitted += many,
            Decision::Hold => self.held += many,
            Decision::Redirect(_) => self.redirected += many,
            Decision::Reject(reason) => {
                self.rejected += many;
                if let Some(sum) = self.rejected_by_reason.0.get_mut(reason.index()) {
                    *sum += many;
                }
            }
        }
    }

    /// Takes how things stand.
    pub fn note(&mut self, standing: &Standing, now: Timestamp) {
        let at = Tenths(seconds(now));
        let over = standing.phase != Phase::Surge;
        if over || standing.began {
            self.end_surge(at);
        }
        if standing.began {
            self.surges.push(Surge {
                start: at,
                end: over.then_some(at),
                peak_per_s: Tenths(0.0),
                baseline_per_s: Tenths(standing.baseline_per_s),
                ratio: Tenths(0.0),
                spread: None,
                callers: Vec::new(),
                by_inflight: false,
                told: false,
            });
        }
        if let Some(surge) = self.surges.last_mut()
            && (!over || standing.began)
        {
            surge.see(standing.rate_per_s);
        }
        let watched = self.watches.last_mut().filter(|watch| watch.end.is_none());
        match (watched, standing.phase == Phase::Watch) {
            (Some(watch), false) => watch.end = Some(at),
            (None, true) => self.watches.push(Watch {
                start: at,
                end: None,
            }),
            _ => {}
        }
    }

    /// What the operator is told when a surge began.
    pub fn tell(&mut self, signal: Signal, culprits: (Option<&'static str>, Vec<Caller>)) {
        if let Some(surge) = self.surges.last_mut() {
            surge.told = true;
            surge.by_inflight = signal == Signal::Inflight;
            (surge.spread, surge.callers) = culprits;
        }
    }

    /// The surge that goes on, if its culprits were not asked for yet.
    pub fn is_untold(&self) -> bool {
        self.surges.last().is_some_and(|surge| !surge.told)
    }

    fn end_surge(&mut self, at: Tenths) {
        if let Some(surge) = self.surges.last_mut()
            && surge.end.is_none()
        {
            surge.end = Some(at);
        }
    }
}

impl Surge {
    fn see(&mut self, rate_per_s: f64) {
        if rate_per_s > self.peak_per_s.0 {
            self.peak_per_s.0 = rate_per_s;
            self.ratio.0 = rate_per_s / self.baseline_per_s.0;
        }
    }
}
