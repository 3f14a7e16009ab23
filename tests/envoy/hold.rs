//! Those that wait: their order, their time, and those that leave.

use std::time::{Duration, Instant};

use crate::harness::{Bootstrap, Conduct, Envoy, Fate, HTTP, TCP, Upstream, fate, http, knock};

const RULE: &str = "service";

/// One slot, one worker, and all the time to wait for it.
fn one_slot(upstream: &Upstream, order: &str) -> Bootstrap {
    let hold = format!(r#"{{"max_wait": "60s", "max_waiting": 8, "order": "{order}"}}"#);
    TCP.before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold(&hold)
}

#[test]
fn the_newest_or_the_oldest_is_served_first() {
    for (order, expected) in [
        ("newest_first", ["first", "d", "c", "b"]),
        ("oldest_first", ["first", "b", "c", "d"]),
    ] {
        let upstream = Upstream::start(Conduct::Echo);
        let envoy = Envoy::start(&one_slot(&upstream, order), 1);
        let service = envoy.listener(TCP.listener);
        let mut open = knock(service, "first");
        assert_eq!(fate(&mut open), Fate::Served);
        let mut waiting: Vec<_> = (1..)
            .zip(["b", "c", "d"])
            .map(|(count, name)| {
                let held = (name, knock(service, name));
                envoy.until_rule(RULE, "tidegate_waiting", f64::from(count));
                held
            })
            .collect();
        for expected in &expected[1..] {
            drop(open);
            let next = waiting.iter().position(|(name, _)| name == expected);
            open = waiting.remove(next.expect("it waits")).1;
            assert_eq!(fate(&mut open), Fate::Served);
        }
        assert_eq!(upstream.seen().said, expected);
        assert_eq!(upstream.seen().peak, 1);
        drop(open);
        envoy.until_balanced(RULE, 4);
    }
}

#[test]
fn nobody_is_refused_before_the_time_is_up() {
    const MAX_WAIT: Duration = Duration::from_millis(700);
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold(r#"{"max_wait": "700ms", "max_waiting": 8}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let service = envoy.listener(TCP.listener);
    let mut open = knock(service, "first");
    assert_eq!(fate(&mut open), Fate::Served);
    for _ in 0..3 {
        let since = Instant::now();
        let mut held = knock(service, "held");
        assert_eq!(fate(&mut held), Fate::Refused);
        let waited = since.elapsed();
        assert!(waited >= MAX_WAIT, "refused after {waited:?}");
    }
    drop(open);
    let metrics = envoy.until_balanced(RULE, 4);
    assert_eq!(metrics.rejected(RULE, "hold_timeout"), 3.0);
}

#[test]
fn the_time_waited_is_in_the_histogram_of_those_that_were_admitted() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&one_slot(&upstream, "newest_first"), 1);
    let service = envoy.listener(TCP.listener);
    let mut open = knock(service, "first");
    assert_eq!(fate(&mut open), Fate::Served);
    let mut held = knock(service, "held");
    envoy.until_rule(RULE, "tidegate_waiting", 1.0);
    drop(open);
    assert_eq!(fate(&mut held), Fate::Served);
    envoy.until_rule(RULE, "tidegate_hold_ms_count", 1.0);
}

#[test]
fn a_request_that_leaves_while_held_leaves_nothing_behind() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold(r#"{"max_wait": "60s", "max_waiting": 8}"#);
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    let first = http::ask(api, "/first");
    upstream.until_open(1);
    let held: Vec<_> = (0..4).map(|_| http::ask(api, "/held")).collect();
    envoy.until_rule("api", "tidegate_waiting", 4.0);
    drop(held);
    envoy.until_rule("api", "tidegate_waiting", 0.0);
    upstream.release();
    assert_eq!(http::answer(first).status, 200);
    let metrics = envoy.until_quiet("api", 5);
    assert_eq!(metrics.rule("api", "tidegate_admitted_total"), 1.0);
    assert_eq!(metrics.rule("api", "tidegate_rejected_total"), 0.0);
    assert_eq!(upstream.seen().said, ["/first"]);
    assert_eq!(http::get(api, "/after").status, 200);
}

#[test]
fn a_connection_that_leaves_while_held_leaves_nothing_behind() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&one_slot(&upstream, "oldest_first"), 1);
    let service = envoy.listener(TCP.listener);
    let mut open = knock(service, "first");
    assert_eq!(fate(&mut open), Fate::Served);
    let gone: Vec<_> = (0..4).map(|_| knock(service, "gone")).collect();
    envoy.until_rule(RULE, "tidegate_waiting", 4.0);
    drop(gone);
    let mut last = knock(service, "last");
    envoy.until_rule(RULE, "tidegate_waiting", 5.0);
    // Envoy does not read from those that are held, so it sees who left when their turn comes.
    drop(open);
    assert_eq!(fate(&mut last), Fate::Served);
    drop(last);
    envoy.until_balanced(RULE, 6);
    assert_eq!(upstream.seen().peak, 1);
}

#[test]
fn connections_that_left_while_held_are_forgotten_when_their_time_is_up() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP.before(upstream.address).limits(r#"{"inflight": 1}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let service = envoy.listener(TCP.listener);
    let mut open = knock(service, "first");
    assert_eq!(fate(&mut open), Fate::Served);
    drop((0..20).map(|_| knock(service, "gone")).collect::<Vec<_>>());
    envoy.until_rule(RULE, "tidegate_rejected_total", 20.0);
    envoy.until_rule(RULE, "tidegate_waiting", 0.0);
    drop(open);
    envoy.until_balanced(RULE, 21);
    assert_eq!(upstream.seen().total, 1);
}
