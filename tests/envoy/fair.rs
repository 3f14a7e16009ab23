//! Who is served while there is not enough for all: callers, classes, other upstreams.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, HTTP, Load, TCP, Upstream, fate, http, knock,
    load::connect_from, until,
};

const RULE: &str = "service";
const CULPRIT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn knock_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use std::io::Write;
    let mut stream = connect_from(from, to);
    stream
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .expect("a timeout");
    let _ = stream.write_all(b"knock");
    stream
}

/// Some seconds of a caller that has about five open.
fn steady(envoy: &Envoy, to: SocketAddr) {
    let steady = Load {
        stay: Duration::from_millis(250),
        ..Load::new(to, 20.0)
    };
    let steady = steady.start();
    envoy.until("a steady caller should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 160.0
    });
    steady.end();
}

#[test]
fn a_flood_from_one_address_takes_no_slot_that_another_one_needs() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP.before(upstream.address).limits(r#"{"inflight": 20}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(TCP.listener);
    steady(&envoy, to);

    let flood: Vec<_> = (0..80).map(|_| knock_from(CULPRIT, to)).collect();
    for _ in 0..30 {
        let mut one = knock(to, "needed");
        assert_eq!(fate(&mut one), Fate::Served);
    }
    envoy.until("the flood should be refused as what it is", |metrics| {
        metrics.rejected(RULE, "hot_caller") >= 50.0
    });
    let metrics = envoy.metrics();
    for reason in ["inflight_limit", "hold_timeout", "hold_full"] {
        assert_eq!(metrics.rejected(RULE, reason), 0.0, "{}", metrics.told());
    }
    assert!(upstream.seen().peak <= 20);
    drop(flood);
}

#[test]
fn the_refusal_of_a_hot_caller_is_kept_for_a_while_and_costs_no_slot() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 12}"#)
        .with(r#""reject": {"slow": "2s", "max_slow": 20}"#);
    let envoy = Envoy::start(&bootstrap, 1);
    let to = envoy.listener(TCP.listener);
    steady(&envoy, to);

    let began = Instant::now();
    let flood: Vec<_> = (0..60).map(|_| knock_from(CULPRIT, to)).collect();
    // All but twenty of those that got no slot are refused at once.
    envoy.until("those without room should be refused", |metrics| {
        metrics.rejected(RULE, "hot_caller") >= 45.0
    });
    assert!(envoy.metrics().rule(RULE, "tidegate_inflight") <= 12.0);
    let faults = envoy
        .metrics()
        .sum("tidegate_faults_total", &[("kind", "refusals_full")]);
    assert!(faults > 0.0);
    let mut late = 0;
    for mut stream in flood {
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        // Those that are served and not closed keep their slot.
        if fate(&mut stream) == Fate::Refused && began.elapsed() >= Duration::from_millis(900) {
            late += 1;
        }
    }
    assert!(late > 0, "a refusal takes one to three seconds");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn reserved_slots_are_there_for_their_class_when_all_others_are_taken() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 6}"#)
        .hold_off()
        .with(
            r#""classes": [{"name": "admin", "match": {"source": ["127.0.0.2"]},
                "priority": 0, "reserved": 2}]"#,
        );
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(TCP.listener);
    let many: Vec<_> = (0..30).map(|_| knock(to, "many")).collect();
    let (served, refused) = crate::harness::fates(many);
    assert_eq!((served.len(), refused), (4, 26));
    for _ in 0..10 {
        let mut operator = knock_from(CULPRIT, to);
        assert_eq!(fate(&mut operator), Fate::Served);
        drop(operator);
        upstream.until_open(4);
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(upstream.seen().peak <= 6);
}

/// With a second cluster of that name.
fn beside(bootstrap: Bootstrap, first: &str, name: &str, address: SocketAddr) -> Bootstrap {
    let cluster = bootstrap.block(&format!("  - name: {first}\n    connect_timeout"));
    let port = cluster
        .split_once("port_value: ")
        .and_then(|(_, rest)| rest.split_once('}'))
        .expect("a port");
    let other = cluster
        .replace(&format!("name: {first}"), &format!("name: {name}"))
        .replace(port.0, &address.port().to_string());
    bootstrap.set(&cluster, &format!("{cluster}{other}"))
}

#[test]
fn connections_over_the_limit_go_to_the_other_cluster() {
    let (first, second) = (
        Upstream::start(Conduct::Echo),
        Upstream::start(Conduct::Echo),
    );
    for hold in [r#""off""#, r#"{"max_wait": "50ms"}"#] {
        let bootstrap = TCP
            .before(first.address)
            .limits(r#"{"inflight": 1}"#)
            .hold(hold)
            .with(r#""redirect": {"cluster": "overflow"}"#);
        let bootstrap = beside(bootstrap, "service", "overflow", second.address);
        let envoy = Envoy::start(&bootstrap, 1);
        let to = envoy.listener(TCP.listener);
        let before = second.seen().said.len();
        let mut one = knock(to, "one");
        assert_eq!(fate(&mut one), Fate::Served);
        let mut two = knock(to, "two");
        assert_eq!(fate(&mut two), Fate::Served);
        until(|| {
            let said = second.seen().said.len() - before;
            (said == 1)
                .then_some(())
                .ok_or_else(|| format!("{said} came"))
        });
        let metrics = envoy.until_rule(RULE, "tidegate_redirected_total", 1.0);
        assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 1.0);
        assert_eq!(metrics.rule(RULE, "tidegate_inflight"), 1.0);
    }
}

#[test]
fn requests_over_the_limit_go_where_a_header_leads_them() {
    let (first, second) = (
        Upstream::start(Conduct::Http),
        Upstream::start(Conduct::Http),
    );
    second.release();
    let bootstrap = HTTP
        .before(first.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off()
        .with(r#""redirect": {"header": {"name": "x-tidegate-route", "value": "overflow"}}"#)
        .set(
            "              - match: {prefix: /}\n",
            "              - match: {prefix: /, headers: [{name: x-tidegate-route, string_match: {exact: overflow}}]}\n                route: {cluster: overflow}\n              - match: {prefix: /}\n",
        );
    let bootstrap = beside(bootstrap, "api", "overflow", second.address);
    let envoy = Envoy::start(&bootstrap, 1);
    let to = envoy.listener(HTTP.listener);
    let waiting = http::ask(to, "/one");
    envoy.until_rule("api", "tidegate_inflight", 1.0);
    assert_eq!(http::get(to, "/two").status, 200);
    envoy.until_rule("api", "tidegate_redirected_total", 1.0);
    drop(waiting);
}

#[test]
fn shadow_tells_who_would_be_refused_and_touches_nobody() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 12}"#)
        .mode("shadow");
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(TCP.listener);
    steady(&envoy, to);
    let flood: Vec<_> = (0..40).map(|_| knock_from(CULPRIT, to)).collect();
    let (served, refused) = crate::harness::fates(flood);
    assert_eq!((served.len(), refused), (40, 0));
    envoy.until(
        "shadow should say what enforce would have done",
        |metrics| {
            let shed = |reason| {
                metrics.sum(
                    "tidegate_shadow_rejected_total",
                    &[("rule", RULE), ("reason", reason)],
                )
            };
            shed("hot_caller") >= 25.0 && shed("hold_timeout") == 0.0
        },
    );
}
