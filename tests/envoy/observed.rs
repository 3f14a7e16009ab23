//! What operators and their programs read: metrics, events, and the shipped files.

use std::{collections::BTreeSet, fs};

use crate::harness::{
    Conduct, Envoy, TCP, Upstream, bootstrap::ALL, envoy::validate, fates, knocks,
    places::repository,
};

/// Every metric of this version, with the labels it has besides `rule`.
const METRICS: [(&str, &str); 11] = [
    ("tidegate_arrivals_total", ""),
    ("tidegate_admitted_total", ""),
    ("tidegate_held_total", ""),
    ("tidegate_rejected_total", "reason"),
    ("tidegate_shadow_rejected_total", "reason"),
    ("tidegate_faults_total", "kind"),
    ("tidegate_inflight", ""),
    ("tidegate_waiting", ""),
    ("tidegate_arrival_rate_per_s", ""),
    ("tidegate_inflight_limit", ""),
    ("tidegate_hold_ms_count", ""),
];

const REASONS: [&str; 5] = [
    "inflight_limit",
    "arrival_limit",
    "connecting_limit",
    "hold_full",
    "hold_timeout",
];

#[test]
fn every_metric_has_its_labels_in_prometheus() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&TCP.before(upstream.address), 2);
    let (served, _) = fates(knocks(envoy.listener(TCP.listener), 110));
    let metrics = envoy.until_rule("service", "tidegate_rejected_total", 10.0);
    for (name, label) in METRICS {
        let found: Vec<_> = metrics.all.iter().filter(|one| one.name == name).collect();
        assert!(!found.is_empty(), "there is no {name}");
        for series in found {
            assert_eq!(series.labels["rule"], "service", "{series:?}");
            assert_eq!(series.labels.len(), 1 + usize::from(!label.is_empty()));
            assert!(
                label.is_empty() || !series.labels[label].is_empty(),
                "{series:?}"
            );
        }
    }
    for reason in REASONS {
        metrics.rejected("service", reason);
    }
    let build: Vec<_> = metrics
        .all
        .iter()
        .filter(|one| one.name == "tidegate_build_info")
        .collect();
    assert_eq!(build.len(), 1);
    assert_eq!(build[0].labels["version"], env!("CARGO_PKG_VERSION"));
    assert!(!build[0].labels["commit"].is_empty() && build[0].value == 1.0);
    assert_eq!(metrics.rule("service", "tidegate_inflight_limit"), 100.0);
    let rate = metrics.rule("service", "tidegate_arrival_rate_per_s");
    assert!(rate > 0.0 && rate <= 110.0, "{rate}");
    let raw = metrics.all.iter().find(|one| {
        let name = one.name.starts_with("envoy_") || one.name.starts_with("tidegate_");
        !name || one.name.contains("rule_") || one.name.contains("wasmcustom")
    });
    assert_eq!(raw, None, "a label was left in a name");
    drop(served);
}

#[test]
fn the_start_is_announced_once_whatever_the_number_of_workers() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&TCP.before(upstream.address), 4);
    // Every worker has created its machine when connections are served.
    let (served, _) = fates(knocks(envoy.listener(TCP.listener), 40));
    let events = envoy.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].name, "started");
    let event = &events[0].json;
    assert_eq!(event["version"], env!("CARGO_PKG_VERSION"));
    assert!(event["commit"].is_string());
    assert!(event["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    let rules = serde_json::json!([{"name": "service", "mode": "enforce"}]);
    assert_eq!(event["rules"], rules);
    drop(served);
}

#[test]
fn envoy_accepts_every_shipped_bootstrap() {
    let files: BTreeSet<_> = fs::read_dir(repository("envoy"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with(".yaml") && name != "compose.yaml")
        .collect();
    let known: BTreeSet<_> = ALL.iter().map(|one| one.file.to_owned()).collect();
    assert_eq!(files, known, "a shipped bootstrap is not tested");
    let nowhere = ([127, 0, 0, 1], 9).into();
    for shipped in ALL {
        let (accepted, said) = validate(&shipped.before(nowhere));
        assert!(accepted, "{}: {said}", shipped.file);
    }
}
