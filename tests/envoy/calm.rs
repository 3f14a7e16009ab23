//! What is no surge for a long time, and then one by what stays open.

use std::{env, thread, time::Duration};

use crate::harness::{Conduct, Envoy, Load, Pace, TCP, Upstream};

const RULE: &str = "service";
/// The phase by its number.
const SURGE: f64 = 3.0;

/// How long a steady load is watched. What is open is judged after 60 s; some ticks may be late.
fn steady_span() -> Duration {
    let long = env::var_os("TIDEGATE_LONG").is_some_and(|value| value == "1");
    Duration::from_secs(if long { 300 } else { 70 })
}

#[test]
fn a_steady_load_is_no_surge_and_connections_that_pile_up_are_one_without_more_arrivals() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 5000}"#)
        .with(r#""surge": {"baseline_per_s": 40}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let load = Load {
        pace: Pace::Random,
        ..Load::new(envoy.listener(TCP.listener), 40.0)
    };
    let load = load.start();
    thread::sleep(steady_span());
    let metrics = envoy.metrics();
    for counter in ["tidegate_surges_total", "tidegate_upstream_refusals_total"] {
        assert_eq!(metrics.rule(RULE, counter), 0.0, "{}", metrics.told());
    }
    let events = envoy.events();
    assert_eq!(events.len(), 1, "more than the start: {events:?}");

    // They come as before, and stay.
    load.keep(true);
    let started = envoy.until_event(RULE, "surge_started");
    assert_eq!(started.text("signal"), "inflight", "{}", started.json);
    assert!(started.number("inflight") > 20.0, "{}", started.json);
    assert!(started.number("rate_per_s") < 80.0, "{}", started.json);
    envoy.until_rule(RULE, "tidegate_phase", SURGE);
    load.keep(false);
    envoy.until_event(RULE, "surge_ended");
    envoy.until("the surge should be over", |metrics| {
        metrics.rule(RULE, "tidegate_phase") != SURGE
    });
    let sent = load.end();
    let metrics = envoy.until_quiet(RULE, sent.count);
    assert_eq!(metrics.rule(RULE, "tidegate_surges_total"), 1.0);
}
