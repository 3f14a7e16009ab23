//! `tidegatectl replay`: access logs and CSV, under rules of every kind.

use std::sync::OnceLock;

use indicatif::ProgressBar;
use tidegate::config::{self, Build, Policy};

use crate::replay::{
    Format,
    lines::Lines,
    replay,
    trace::{self, Row},
    written,
};

/// Rules that ask for everything that a trace may say.
const RULES: [&str; 3] = [
    "",
    r#"{"rules": [{"name": "a", "limits": {"inflight": 2, "arrivals_per_s": 3}, "hold": {"max_wait": "50ms", "max_waiting": 2}}]}"#,
    r#"{"rules": [
        {"name": "api", "match": {"authority": "api.example", "path_prefix": "/v1", "method": ["GET", "POST"]},
         "limits": {"inflight": 3, "arrivals_per_s": 100}, "key": "authority", "adaptive": true,
         "redirect": {"header": {"name": "x-route", "value": "b"}}},
        {"name": "db", "match": {"listener_port": 5432, "source": ["10.0.0.0/8"]}, "limits": {"inflight": 5},
         "classes": [{"name": "admin", "match": {"source": ["10.9.0.0/16"]}, "priority": 0, "reserved": 1}]},
        {"name": "rest", "limits": {"arrivals_per_s": 1}, "hold": "off"}]}"#,
];

/// A replay lives through silences lap by lap, and decides arrival by arrival: so many steps of both at
/// most, a day of one or 100,000 of the other. More is no fault, and takes minutes.
const MOST_STEPS: f64 = 1e6;
/// What takes as long as a lap of silence is a tenth of a decision.
const A_DECISION: f64 = 10.0;
/// Arrivals of one lap that a rule decides, and laps of one second.
const A_LAP: f64 = 100.0;
const LAPS_PER_S: f64 = 10.0;
/// A silence that is left out, of streams and of counts, in s.
const LONG_S: f64 = 30.0 * DAY_S;
const DAY_S: f64 = 86_400.0;

/// The first byte chooses the rules and the format of the result, the rest is a trace.
pub fn run(data: &[u8]) {
    static POLICIES: OnceLock<[Policy; 3]> = OnceLock::new();
    let Some((choice, trace)) = data.split_first() else {
        return;
    };
    if steps(trace) > MOST_STEPS {
        return;
    }
    let policies = POLICIES.get_or_init(|| {
        RULES.map(|rules| {
            config::parse(rules.as_bytes(), Build { inspect: true }).expect("they are right")
        })
    });
    let policy = &policies[usize::from(*choice) % policies.len()];
    let bar = ProgressBar::hidden();
    let replayed = replay(policy, trace, "trace", &bar, &mut |line| {
        assert!(!line.contains('\n'), "{line:?}");
    });
    let Some(findings) = replayed.expect("a slice") else {
        return;
    };
    let format = [Format::Json, Format::Text, Format::Html][usize::from(*choice) / 3 % 3];
    let text = written(&findings, policy, format);
    assert!(!text.is_empty());
    if matches!(format, Format::Json) {
        let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
        assert!(json.is_ok(), "{text}");
    }
}

/// How many steps a trace is at most.
fn steps(trace: &[u8]) -> f64 {
    let (mut lines, mut format) = (Lines::new(trace), None);
    let mut times: Vec<(f64, f64, f64)> = Vec::new();
    while let Ok(Some(line)) = lines.next() {
        let text = line.text.unwrap_or_default();
        let of = || trace::Format::of(&text).map(|(format, _)| format);
        if text.is_empty() || text.starts_with('#') || (format.is_none() && of().is_err()) {
            continue;
        }
        let format = *format.get_or_insert_with(|| of().expect("it is one"));
        times.extend(match format.row(text.trim_start_matches('\u{FEFF}')) {
            Ok(Row::Count { t, count, .. }) => Some((t, count as f64, DAY_S)),
            Ok(Row::Stream { at, .. }) => Some((at.as_nanos() as f64 / 1e9, 1.0, LONG_S)),
            Err(_) => None,
        });
    }
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    // What the first one spans is not known, and may be a day.
    let mut before = f64::NEG_INFINITY;
    let steps = times.iter().map(|&(t, arrivals, long)| {
        let silence = t - std::mem::replace(&mut before, t);
        let lived = if silence > long { 1.0 } else { silence };
        let spread = (silence.min(DAY_S) * LAPS_PER_S).max(1.0);
        lived * LAPS_PER_S + A_DECISION * arrivals.min(A_LAP * spread)
    });
    steps.sum()
}
