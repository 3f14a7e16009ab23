//! What is looked at when streams end, and what is said to the operator.

use alloc::string::{String, ToString};

use super::{
    host::{self, Level, SharedData},
    matching::Kind,
};
use crate::{
    config::{Rule, RuleName},
    engine::{Answers, Callers, Notice, Report, Sampler, Timestamp, Totals},
    event::{self, ByReason, Caller, Event, Hundredths, Rfc3339, Tenths},
    store::{SharedStore as _, told_key},
};

/// After one that ended badly, so many are all looked at.
const CURIOUS: u32 = 64;
/// So many callers are named.
const NAMED: usize = 5;

/// Of the requests of a lap that end, the first so many are each looked at: that takes several times as
/// long as all that is done about a request otherwise.
const REQUESTS: u32 = 2;

/// Which ends of streams are worth their microseconds.
#[derive(Debug)]
pub struct Curiosity {
    /// How many more ends are all looked at after a bad one.
    left: u32,
    connections: Sampler,
    requests: Sampler,
}

impl Default for Curiosity {
    fn default() -> Self {
        Self {
            left: 0,
            connections: Sampler::default(),
            requests: Sampler::of(REQUESTS),
        }
    }
}

impl Curiosity {
    /// Whether to ask how a stream ended.
    pub fn looks(&mut self, kind: Kind) -> bool {
        let sampler = match kind {
            Kind::Http => &mut self.requests,
            Kind::Tcp => &mut self.connections,
        };
        self.left > 0 || sampler.weight() > 0
    }

    /// A lap of 100 ms is over.
    pub fn lap(&mut self) {
        self.connections.lap();
        self.requests.lap();
    }

    /// One that was looked at ended like that.
    pub fn saw(&mut self, answers: Answers) {
        self.left = if answers.bad() > 0 {
            CURIOUS
        } else {
            self.left.saturating_sub(1)
        };
    }
}

/// Says what is to be told of a rule, in one line.
///
/// `everyone` tells who the callers are, when it is asked.
pub fn say(
    rule: &Rule,
    report: &Report,
    notice: Notice,
    now: Timestamp,
    seen: Totals,
    everyone: impl FnOnce() -> Callers,
) {
    let name = rule.name.as_str();
    let at = Rfc3339(now);
    let inflight = seen.open + seen.ghosts;
    let rate_per_s = Tenths(report.rate_per_s);
    let baseline_per_s = Tenths(report.baseline_per_s);
    let event = match notice {
        Notice::SurgeStarted { signal, ratio } => {
            let everyone = everyone();
            Event::SurgeStarted {
                rule: name,
                at,
                rate_per_s,
                baseline_per_s,
                ratio: Tenths(ratio),
                inflight,
                inflight_limit: rule
                    .limits
                    .inflight
                    .map_or(0, |limit| report.limit_in_force(limit.get())),
                signal: signal.label(),
                spread: everyone.spread().name(),
                callers: everyone
                    .by_excess()
                    .into_iter()
                    .take(NAMED)
                    .map(|caller| Caller {
                        key: caller.key.escape_ascii().map(char::from).collect(),
                        rate_per_s: Tenths(caller.rate_per_s),
                        baseline_per_s: Tenths(caller.baseline_per_s),
                        share: Hundredths(caller.share),
                    })
                    .collect(),
            }
        }
        Notice::SurgeEnded {
            lasted,
            peak_per_s,
            rejected,
            held,
        } => Event::SurgeEnded {
            rule: name,
            at,
            duration_s: Tenths(lasted.as_secs_f64()),
            peak_per_s: Tenths(peak_per_s),
            baseline_per_s,
            rejected: rejected.iter().copied().map(u64::from).sum(),
            rejected_by_reason: ByReason(rejected),
            held,
        },
        Notice::UpstreamRefusing { bad } => Event::UpstreamRefusing {
            rule: name,
            at,
            refused: bad,
            inflight,
        },
        Notice::LimitLowered { limit } => Event::LimitLowered {
            rule: name,
            at,
            inflight_limit: limit,
            inflight,
        },
        Notice::LimitRaised { limit } => Event::LimitRaised {
            rule: name,
            at,
            inflight_limit: limit,
            inflight,
        },
        Notice::Drift => Event::DriftWarning {
            rule: name,
            at,
            rate_per_s,
            baseline_per_s,
        },
    };
    let json = event.json();
    host::log(Level::Warn, &event::line(&json));
    if matches!(notice, Notice::SurgeStarted { .. }) {
        // For the live page, where nothing depends on it.
        let _ = SharedData.compare_and_set(&told_key(name), json.as_bytes(), None);
    }
}

/// The last surge of a rule that was told, as JSON; `null` when none was, or there is no such rule.
pub fn told(rule: &str) -> String {
    let known = RuleName::new(rule).and_then(|_| SharedData.load(&told_key(rule)).ok()?);
    known
        .and_then(|(json, _)| String::from_utf8(json).ok())
        .unwrap_or_else(|| "null".to_string())
}
