//! What operators and their programs read: metrics, events, and the shipped files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::{
    harness::{
        Conduct, Delivered, Envoy, TCP, Upstream, bootstrap::ALL, envoy::validate, fates, knocks,
        metrics::Series, places::repository,
    },
    pages::{self, Metric, Page},
};

#[test]
fn the_metrics_in_prometheus_are_exactly_those_that_are_written_down() {
    let upstream = Upstream::start(Conduct::Echo);
    // From a folder, so that Envoy counts its updates, too.
    let delivered = Delivered::first(&TCP.before(upstream.address));
    let envoy = Envoy::start(&delivered.bootstrap, 2);
    let (served, _) = fates(knocks(envoy.listener(TCP.listener), 110));
    envoy.until_rule("service", "tidegate_rejected_total", 10.0);
    let documented = Metric::all();
    let told: BTreeMap<String, BTreeSet<String>> =
        documented.iter().flat_map(Metric::series).collect();
    let metrics = envoy.until("the histogram is merged from time to time", |metrics| {
        let all = &metrics.all;
        all.iter().any(|one| one.name == "tidegate_hold_ms_count")
    });
    let mut real = BTreeMap::<String, BTreeSet<String>>::new();
    let ours = |one: &&Series| one.name.contains("tidegate_") && !one.name.starts_with("envoy_");
    for series in metrics.all.iter().filter(ours) {
        let labels: BTreeSet<_> = series.labels.keys().cloned().collect();
        assert!(
            series.labels.values().all(|value| !value.is_empty()),
            "{series:?}"
        );
        let known = real.entry(series.name.clone()).or_insert(labels.clone());
        assert_eq!(*known, labels, "{series:?}");
    }
    assert_eq!(real, told);

    let text = envoy.admin("/stats/prometheus");
    for metric in &documented {
        let kind = format!("# TYPE {} {}\n", metric.name, metric.kind);
        assert!(text.contains(&kind), "{kind}");
    }
    for (name, label) in [
        ("tidegate_rejected_total", "reason"),
        ("tidegate_shadow_rejected_total", "reason"),
        ("tidegate_faults_total", "kind"),
    ] {
        let series = metrics.all.iter().filter(|one| one.name == name);
        let real: BTreeSet<_> = series.map(|one| one.labels[label].clone()).collect();
        assert_eq!(real, pages::values(label).into_iter().collect(), "{name}");
    }

    // What the pages tell people to look at of Envoy's own.
    for page in Page::all() {
        for name in pages::names(&page.prose(), "envoy_") {
            let there = metrics.all.iter().any(|one| one.name == name);
            assert!(there, "{}: {name}", page.path.display());
        }
    }

    assert!(
        metrics
            .all
            .iter()
            .all(|one| one.labels.get("rule").is_none_or(|rule| rule == "service"))
    );
    let build = metrics
        .all
        .iter()
        .find(|one| one.name == "tidegate_build_info");
    let build = build.expect("the build");
    assert_eq!(build.labels["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(build.value, 1.0);
    assert_eq!(metrics.rule("service", "tidegate_inflight_limit"), 100.0);
    let rate = metrics.rule("service", "tidegate_arrival_rate_per_s");
    assert!(rate <= 110.0, "{rate}");
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
