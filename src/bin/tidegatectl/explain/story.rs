//! Events put together: which surges there were, who caused them, what was shed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    event::{Caller, Event, SurgeStarted, What},
    read::Lines,
    words,
};

/// What a log tells.
#[derive(Debug)]
pub struct Story {
    /// By time; what several workers said of the same is told once.
    pub events: Vec<Event>,
    /// By the time of their beginning.
    pub surges: Vec<Surge>,
    /// Lines with the mark that are no events.
    pub malformed: usize,
    /// Events that this version does not know.
    pub unknown: usize,
}

/// A surge of a rule.
#[derive(Clone, Debug, Default)]
pub struct Surge {
    /// `None` for the plugin's whole traffic, which no version writes.
    pub rule: Option<String>,
    /// `None` when the log begins later.
    pub start: Option<Timestamp>,
    /// `None` when it was not over at the end of the log.
    pub end: Option<Timestamp>,
    /// Seconds.
    pub duration: Option<f64>,
    /// How it began.
    pub began: SurgeStarted,
    /// The highest rate there was, per second; `None` until it is known.
    pub peak: Option<f64>,
    /// How many were rejected.
    pub rejected: Option<f64>,
    /// How many waited.
    pub held: Option<f64>,
    /// How many were rejected, for each reason.
    pub reasons: BTreeMap<String, f64>,
}

impl Story {
    /// Puts the events together.
    pub fn of(lines: Lines) -> Self {
        let mut events: Vec<Event> = Vec::new();
        for event in lines.events {
            if !repeats(&events, &event) {
                events.push(event);
            }
        }
        let mut surges: Vec<Surge> = Vec::new();
        for event in &events {
            take(&mut surges, event);
        }
        let last = events.last().map(|event| event.at);
        surges.sort_by_key(|surge| surge.start.or(surge.end).or(last));
        Self {
            events,
            surges,
            malformed: lines.malformed,
            unknown: lines.unknown,
        }
    }

    /// The first and the last moment of it.
    pub fn range(&self) -> (Timestamp, Timestamp) {
        let events = self.events.iter().map(|event| event.at);
        let starts = self.surges.iter().filter_map(|surge| surge.start);
        let first = events.clone().chain(starts).min().unwrap_or_default();
        (first, events.max().unwrap_or_default())
    }

    /// The names of the rules, those with surges first.
    pub fn rules(&self) -> Vec<&str> {
        let surging = self.surges.iter().map(|surge| surge.rule.as_deref());
        let others = self.events.iter().map(|event| event.rule.as_deref());
        let mut names = Vec::new();
        for name in surging.chain(others).flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        let (from, to) = self.range();
        let timeline = self.events.iter().map(|event| {
            let pieces = words::sentence(event).into_iter().map(|piece| match piece {
                words::Piece::Plain(text) | words::Piece::Name(text) => text,
            });
            json!({
                "at": event.at.to_string(),
                "event": event.what.name(),
                "rule": event.rule,
                "text": pieces.collect::<String>(),
            })
        });
        let story = json!({
            "from": from.to_string(),
            "to": to.to_string(),
            "surges": self.surges.iter().map(Surge::to_json).collect::<Vec<_>>(),
            "timeline": timeline.collect::<Vec<_>>(),
            "ignored": {"malformed": self.malformed, "unknown": self.unknown},
        });
        format!("{story:#}\n")
    }
}

impl Surge {
    /// The rate at the beginning as a multiple of the baseline.
    pub fn ratio(&self) -> Option<f64> {
        self.began.ratio.or_else(|| {
            let baseline = self
                .began
                .baseline_per_s
                .filter(|baseline| *baseline > 0.0)?;
            Some(self.began.rate_per_s? / baseline)
        })
    }

    /// The inflight limit, when there was one.
    pub fn limit(&self) -> Option<f64> {
        self.began.inflight_limit.filter(|limit| *limit > 0.0)
    }

    fn to_json(&self) -> Value {
        let callers = self.began.callers.iter().map(|caller| {
            json!({
                "key": caller.key,
                "rate_per_s": caller.rate_per_s,
                "baseline_per_s": caller.baseline_per_s,
                "multiplier": multiplier(caller),
                "share": caller.share,
            })
        });
        json!({
            "rule": self.rule,
            "start": self.start.map(|at| at.to_string()),
            "end": self.end.map(|at| at.to_string()),
            "duration_s": self.duration,
            "rate_per_s": self.began.rate_per_s,
            "baseline_per_s": self.began.baseline_per_s,
            "ratio": self.ratio(),
            "peak_per_s": self.peak,
            "signal": self.began.signal,
            "inflight": self.began.inflight,
            "inflight_limit": self.limit(),
            "spread": self.began.spread,
            "callers": callers.collect::<Vec<_>>(),
            "rejected": self.rejected,
            "held": self.held,
            "rejected_by_reason": self.reasons,
        })
    }
}

fn multiplier(caller: &Caller) -> Option<f64> {
    let baseline = caller.baseline_per_s.filter(|baseline| *baseline > 0.0)?;
    Some(caller.rate_per_s? / baseline)
}

/// Every VM of a worker says that it started.
fn repeats(earlier: &[Event], event: &Event) -> bool {
    matches!(event.what, What::Started(_))
        && earlier
            .iter()
            .rev()
            .take_while(|other| event.at.duration_since(other.at).as_secs() < 10)
            .any(|other| other.what == event.what)
}

fn take(surges: &mut Vec<Surge>, event: &Event) {
    let open = surges
        .iter()
        .position(|surge| surge.end.is_none() && surge.rule == event.rule);
    match &event.what {
        What::SurgeStarted(began) => match open.and_then(|index| surges.get_mut(index)) {
            // Told again while it lasts.
            Some(surge) => surge.peak = most(surge.peak, began.rate_per_s),
            None => surges.push(Surge {
                rule: event.rule.clone(),
                start: Some(event.at),
                began: began.clone(),
                ..Surge::default()
            }),
        },
        What::SurgeEnded(ended) => {
            let index = open.unwrap_or_else(|| {
                surges.push(Surge {
                    rule: event.rule.clone(),
                    ..Surge::default()
                });
                surges.len() - 1
            });
            if let Some(surge) = surges.get_mut(index) {
                let lasted = surge.start.map(|start| event.at.duration_since(start));
                surge.end = Some(event.at);
                surge.duration = ended.duration_s.or(lasted.map(|span| span.as_secs_f64()));
                surge.peak = most(surge.peak, ended.peak_per_s);
                surge.began.baseline_per_s = surge.began.baseline_per_s.or(ended.baseline_per_s);
                surge.rejected = ended.rejected;
                surge.held = ended.held;
                surge.reasons = ended.rejected_by_reason.clone();
            }
        }
        _ => {}
    }
}

fn most(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::read;

    fn story(events: &[(&str, &str, &str)]) -> Story {
        let log: String = events
            .iter()
            .map(|(at, rule, rest)| {
                format!(
                    "tidegate_event {{\"at\":\"2026-01-09T15:{at}Z\",\"rule\":\"{rule}\",{rest}}}\n"
                )
            })
            .collect();
        Story::of(read::lines(log.as_bytes()).unwrap())
    }

    const START: &str = r#""event":"surge_started","rate_per_s":400,"baseline_per_s":20"#;
    const END: &str = r#""event":"surge_ended","peak_per_s":530,"rejected":7"#;

    #[test]
    fn surges_of_several_rules_are_told_apart_whatever_the_order_of_the_lines() {
        let story = story(&[
            ("00:42", "a", END),
            ("00:10", "b", START),
            ("00:02", "a", START),
            ("01:00", "a", START),
        ]);
        let told: Vec<_> = story
            .surges
            .iter()
            .map(|surge| (surge.rule.as_deref().unwrap(), surge.duration, surge.peak))
            .collect();
        assert_eq!(
            told,
            [
                ("a", Some(40.0), Some(530.0)),
                ("b", None, None),
                ("a", None, None)
            ]
        );
        assert_eq!(story.surges[0].ratio(), Some(20.0));
    }

    #[test]
    fn an_end_without_a_beginning_is_a_surge_all_the_same() {
        let story = story(&[("00:42", "a", END)]);
        assert_eq!(story.surges.len(), 1);
        assert_eq!(story.surges[0].start, None);
        assert_eq!(story.surges[0].rejected, Some(7.0));
    }

    #[test]
    fn what_every_worker_says_is_told_once() {
        let started = r#""event":"started","version":"0.1.0","rules":[]"#;
        let story = story(&[
            ("00:00", "", started),
            ("00:01", "", started),
            ("20:00", "", started),
        ]);
        assert_eq!(story.events.len(), 2);
    }
}
