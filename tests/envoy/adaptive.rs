//! `adaptive`: the inflight limit of an upstream that is in distress.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Bootstrap, Conduct, Envoy, HTTP, Load, TCP, Upstream, Visits,
    relay::{ENCRYPTED, Relay},
};

/// What is configured, and the least that it is lowered to.
const LIMIT: f64 = 20.0;
const FLOOR: f64 = 2.0;
/// What is climbed in one step.
const STEP: f64 = 1.0;

/// No surge here.
const FIELDS: &str = r#""adaptive": true, "surge": {"baseline_per_s": 5000}"#;

fn adaptive(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap
        .limits(&format!(r#"{{"inflight": {LIMIT}}}"#))
        .with(FIELDS)
}

/// Waits until the limit in force is as it should be; it never leaves its range.
fn until_limit(envoy: &Envoy, rule: &str, what: &str, good: impl Fn(f64) -> bool) -> f64 {
    let limit = |metrics: &crate::harness::metrics::Metrics| {
        let limit = metrics.rule(rule, "tidegate_inflight_limit");
        assert!((FLOOR..=LIMIT).contains(&limit), "{}", metrics.told());
        limit
    };
    limit(&envoy.until(what, |metrics| good(limit(metrics))))
}

/// What was told of the limit, the first first.
fn told(envoy: &Envoy, rule: &str, name: &str) -> Vec<f64> {
    let events = envoy.events_of(rule, name);
    let limits = events.iter().map(|event| event.number("inflight_limit"));
    limits.collect()
}

/// It was told that the upstream refuses, before the limit was lowered for it.
fn told_in_order(envoy: &Envoy, rule: &str) {
    let events = envoy.events();
    let place = |name: &str| {
        let found = events.iter().position(|event| event.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {events:?}"))
    };
    assert!(place("upstream_refusing") < place("limit_lowered"));
    let lowered = told(envoy, rule, "limit_lowered");
    assert!(lowered.is_sorted_by(|a, b| a > b), "{lowered:?}");
    assert!(lowered[0] < LIMIT, "{lowered:?}");
}

/// All the way up, in steps.
fn climbs_back(envoy: &Envoy, rule: &str, from: f64) {
    envoy.until_event(rule, "limit_raised");
    let half = from + (LIMIT - from) / 2.0;
    until_limit(envoy, rule, "half of it should be back", |limit| {
        limit >= half
    });
    until_limit(envoy, rule, "all of it should be back", |limit| {
        limit == LIMIT
    });
    // The last line is up to a second behind.
    crate::harness::until(|| {
        let raised = told(envoy, rule, "limit_raised");
        let done = raised.last() == Some(&LIMIT);
        done.then_some(()).ok_or_else(|| format!("{raised:?}"))
    });
    let raised = told(envoy, rule, "limit_raised");
    assert!(
        raised.is_sorted_by(|a, b| a < b && b - a <= 2.0 * STEP),
        "{raised:?}"
    );
    assert!(raised[0] <= from + STEP, "{raised:?} from {from}");
}

#[test]
fn an_upstream_that_refuses_gets_as_much_as_it_bears_and_all_of_it_when_it_is_well() {
    const RULE: &str = "api";
    const BEARS: usize = 12;
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    upstream.take(Duration::from_millis(200));
    upstream.bear(Some(BEARS));
    let bootstrap = adaptive(HTTP.before(upstream.address)).hold_off();
    let envoy = Envoy::start(&bootstrap, 2);
    let visits = Visits {
        to: envoy.listener(HTTP.listener),
        header: "x-caller",
        names: vec!["one".to_owned()],
        per_s: 120.0,
    };
    let visits = visits.start();
    envoy.until_event(RULE, "limit_lowered");
    let lowered = until_limit(&envoy, RULE, "it should be what it bears", |limit| {
        limit <= BEARS as f64
    });
    envoy.until("what is over it should be refused as that", |metrics| {
        metrics.rejected(RULE, "adaptive_limit") >= 20.0
    });
    told_in_order(&envoy, RULE);

    upstream.bear(None);
    climbs_back(&envoy, RULE, lowered);
    let visits = visits.end();
    assert!(upstream.seen().peak as f64 <= LIMIT);
    let adaptive = visits
        .iter()
        .filter(|visit| visit.reason() == Some("adaptive_limit"));
    let mut refused = 0;
    for visit in adaptive {
        let retry = visit.response.header("retry-after");
        assert_eq!(visit.response.status, 503);
        assert!(matches!(retry, Some("2" | "3")), "{retry:?}");
        refused += 1;
    }
    let metrics = envoy.until_quiet(RULE, visits.len());
    assert_eq!(metrics.rejected(RULE, "adaptive_limit"), f64::from(refused));
    for reason in ["hot_caller", "surge_pressure"] {
        assert_eq!(metrics.rejected(RULE, reason), 0.0, "{}", metrics.told());
    }
}

#[test]
fn an_upstream_that_hangs_gets_less_and_less_but_never_nothing() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Mute);
    let bootstrap = adaptive(TCP.before(upstream.address)).hold(r#"{"max_wait": "50ms"}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let load = Load {
        stay: Duration::from_millis(1300),
        ..Load::new(envoy.listener(TCP.listener), 30.0)
    };
    let load = load.start();
    envoy.until_event(RULE, "limit_lowered");
    until_limit(&envoy, RULE, "it should fall to its floor", |limit| {
        limit == FLOOR
    });
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        until_limit(&envoy, RULE, "it should stay there", |limit| limit == FLOOR);
        thread::sleep(Duration::from_millis(50));
    }
    told_in_order(&envoy, RULE);
    let metrics = envoy.metrics();
    assert!(metrics.rule(RULE, "tidegate_held_total") > 0.0);
    assert!(metrics.rejected(RULE, "adaptive_limit") > 0.0);
    assert!(metrics.rule(RULE, "tidegate_inflight") <= FLOOR + 1.0);

    upstream.release();
    until_limit(&envoy, RULE, "it should climb", |limit| {
        limit >= FLOOR + 2.0 * STEP
    });
    assert_eq!(told(&envoy, RULE, "limit_raised")[0], FLOOR + STEP);
    let sent = load.end();
    envoy.until_quiet(RULE, sent.count);
    assert!(upstream.seen().peak as f64 <= LIMIT);
}

#[test]
fn an_upstream_to_which_connects_become_slow_gets_less_until_they_are_quick_again() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let relay = Relay::start();
    let bootstrap = adaptive(TCP.before(relay.address)).hold_off();
    let (bootstrap, _authority) = relay.slows_connects(bootstrap, upstream.address);
    let envoy = Envoy::start(&bootstrap, 2);
    relay.lead_to(envoy.listener(ENCRYPTED));
    let staying = |stay, per_s| Load {
        stay: Duration::from_millis(stay),
        ..Load::new(envoy.listener(TCP.listener), per_s)
    };
    let usual = staying(100, 40.0).start();
    envoy.until("it should be known what is usual", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 120.0
    });
    let sent = usual.end().count;
    let metrics = envoy.until_quiet(RULE, sent);
    assert_eq!(metrics.rule(RULE, "tidegate_inflight_limit"), LIMIT);

    relay.delay(Duration::from_millis(800));
    let load = staying(1200, 25.0).start();
    envoy.until_event(RULE, "limit_lowered");
    envoy.until("what is over it should be refused as that", |metrics| {
        metrics.rejected(RULE, "adaptive_limit") >= 5.0
    });
    told_in_order(&envoy, RULE);

    relay.delay(Duration::ZERO);
    envoy.until_event(RULE, "limit_raised");
    let more = load.end().count;
    let metrics = envoy.until_quiet(RULE, sent + more);
    assert!(metrics.rule(RULE, "tidegate_inflight_limit") <= LIMIT);
}

#[test]
fn shadow_says_what_a_lowered_limit_would_refuse_and_refuses_nothing() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    upstream.take(Duration::from_millis(200));
    upstream.bear(Some(12));
    let bootstrap = adaptive(HTTP.before(upstream.address))
        .hold_off()
        .mode("shadow");
    let envoy = Envoy::start(&bootstrap, 2);
    let visits = Visits {
        to: envoy.listener(HTTP.listener),
        header: "x-caller",
        names: vec!["one".to_owned()],
        per_s: 120.0,
    };
    let visits = visits.start();
    envoy.until_event(RULE, "limit_lowered");
    let reason = [("rule", RULE), ("reason", "adaptive_limit")];
    envoy.until("it should say so", |metrics| {
        metrics.sum("tidegate_shadow_rejected_total", &reason) >= 20.0
    });
    let visits = visits.end();
    let ours = visits.iter().find(|visit| visit.reason().is_some());
    assert!(ours.is_none(), "{ours:?}");
    assert_eq!(upstream.seen().total, visits.len());
    let metrics = envoy.until_quiet(RULE, visits.len());
    assert_eq!(metrics.rule(RULE, "tidegate_rejected_total"), 0.0);
    assert_eq!(
        metrics.rule(RULE, "tidegate_admitted_total"),
        visits.len() as f64
    );
}
