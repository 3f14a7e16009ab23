//! Shadow counts and changes nothing; off does not even count.

use std::{thread, time::Duration};

use crate::harness::{Conduct, Envoy, HTTP, TCP, Upstream, Visit, Visits, fates, http, knocks};

#[test]
fn shadow_lets_every_connection_pass_and_counts_what_enforce_would_refuse() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP.before(upstream.address).mode("shadow");
    let envoy = Envoy::start(&bootstrap, 2);
    let (served, refused) = fates(knocks(envoy.listener(TCP.listener), 150));
    assert_eq!((served.len(), refused), (150, 0));
    assert_eq!(upstream.seen().peak, 150);
    let timeout = [("rule", "service"), ("reason", "hold_timeout")];
    let metrics = envoy.until("50 would have been refused", |metrics| {
        metrics.sum("tidegate_shadow_rejected_total", &timeout) == 50.0
    });
    let all = metrics.rule("service", "tidegate_shadow_rejected_total");
    assert_eq!(all, 50.0, "{}", metrics.told());
    envoy.until_rule("service", "tidegate_inflight", 150.0);
    drop(served);
    let metrics = envoy.until_balanced("service", 150);
    assert_eq!(metrics.rule("service", "tidegate_rejected_total"), 0.0);
    assert_eq!(metrics.rule("service", "tidegate_held_total"), 0.0);
}

#[test]
fn shadow_lets_every_request_pass_and_counts_what_enforce_would_refuse() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .mode("shadow")
        .limits(r#"{"inflight": 10}"#)
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 2);
    let api = envoy.listener(HTTP.listener);
    let requests: Vec<_> = (0..30).map(|_| http::ask(api, "/")).collect();
    upstream.until_open(30);
    upstream.release();
    for request in requests {
        assert_eq!(http::answer(request).status, 200);
    }
    let metrics = envoy.until_quiet("api", 30);
    let reason = [("rule", "api"), ("reason", "inflight_limit")];
    assert_eq!(metrics.sum("tidegate_shadow_rejected_total", &reason), 20.0);
    assert_eq!(metrics.rule("api", "tidegate_rejected_total"), 0.0);
    assert_eq!(metrics.rule("api", "tidegate_admitted_total"), 30.0);
}

#[test]
fn shadow_counts_who_would_have_waited_in_vain_though_all_are_done_before_that() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    // Half as long as anybody would wait.
    upstream.take(Duration::from_millis(50));
    let bootstrap = HTTP
        .before(upstream.address)
        .mode("shadow")
        .limits(r#"{"inflight": 10}"#)
        .with(r#""surge": {"baseline_per_s": 5000}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    // Twice what ten at a time make.
    let visits = Visits {
        to: envoy.listener(HTTP.listener),
        header: "x-caller",
        names: vec!["one".to_owned()],
        per_s: 400.0,
    };
    let visits = visits.start();
    thread::sleep(Duration::from_secs(5));
    let visits = visits.end();
    assert!(visits.iter().all(Visit::served));
    let metrics = envoy.until_quiet("api", visits.len());
    let reason = [("rule", "api"), ("reason", "hold_timeout")];
    let refused = metrics.sum("tidegate_shadow_rejected_total", &reason);
    let part = refused / visits.len() as f64;
    assert!((0.25..=0.75).contains(&part), "{}", metrics.told());
    assert_eq!(metrics.rule("api", "tidegate_held_total"), 0.0);
}

#[test]
fn off_lets_everything_pass_and_counts_nothing() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP.before(upstream.address).mode("off");
    let envoy = Envoy::start(&bootstrap, 2);
    let (served, refused) = fates(knocks(envoy.listener(TCP.listener), 150));
    assert_eq!((served.len(), refused), (150, 0));
    drop(served);
    let metrics = envoy.until_quiet("service", 0);
    let counted: f64 = metrics
        .all
        .iter()
        .filter(|series| series.name.starts_with("tidegate_") && series.name.ends_with("_total"))
        .map(|series| series.value)
        .sum();
    assert_eq!(counted, 0.0, "{}", metrics.told());
    assert_eq!(upstream.seen().peak, 150);
}
