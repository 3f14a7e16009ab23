//! `tidegatectl replay`: access logs and CSV, under rules of every kind.

use std::sync::OnceLock;

use indicatif::ProgressBar;
use tidegate::config::{self, Build, Policy};

use crate::replay::{Format, replay, written};

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

/// The first byte chooses the rules and the format of the result, the rest is a trace.
pub fn run(data: &[u8]) {
    static POLICIES: OnceLock<[Policy; 3]> = OnceLock::new();
    let Some((choice, trace)) = data.split_first() else {
        return;
    };
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
