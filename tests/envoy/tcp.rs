//! Connections and `limits.inflight`, over all workers.

use std::{net::SocketAddr, thread};

use crate::harness::{Conduct, Envoy, Fate, TCP, Upstream, fate, fates, knock, knocks};

const RULE: &str = "service";

/// All come at once and stay; then they leave, and others come.
fn three_hundred_against_one_hundred(workers: u32) {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&TCP.before(upstream.address), workers);
    let service = envoy.listener(TCP.listener);

    // All at once, and whoever is in stays in.
    let (served, refused) = fates(knocks(service, 300));
    assert_eq!((served.len(), refused), (100, 200));
    let seen = upstream.seen();
    assert_eq!((seen.open, seen.peak, seen.total), (100, 100, 100));
    let metrics = envoy.until_rule(RULE, "tidegate_rejected_total", 200.0);
    assert_eq!(metrics.rejected(RULE, "hold_timeout"), 200.0);
    assert_eq!(metrics.rule(RULE, "tidegate_held_total"), 200.0);
    envoy.until_rule(RULE, "tidegate_inflight", 100.0);

    drop(served);
    envoy.until_balanced(RULE, 300);
    upstream.until_open(0);

    // Every slot came back.
    let (served, refused) = fates(knocks(service, 100));
    assert_eq!((served.len(), refused), (100, 0));
    drop(served);
    envoy.until_balanced(RULE, 400);
}

#[test]
fn two_workers_admit_one_hundred_of_three_hundred_connections_together() {
    three_hundred_against_one_hundred(2);
}

#[test]
fn four_workers_admit_one_hundred_of_three_hundred_connections_together() {
    three_hundred_against_one_hundred(4);
}

/// Comes and goes again and again; how often it was served.
fn regular(service: SocketAddr, visits: usize) -> usize {
    (0..visits)
        .filter(|_| fate(&mut knock(service, "visit")) == Fate::Served)
        .count()
}

#[test]
fn the_limit_holds_while_slots_change_hands() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 8}"#)
        .hold(r#"{"max_wait": "20ms", "max_waiting": 4}"#);
    let envoy = Envoy::start(&bootstrap, 4);
    let service = envoy.listener(TCP.listener);
    let regulars: Vec<_> = (0..40)
        .map(|_| thread::spawn(move || regular(service, 100)))
        .collect();
    let served: usize = regulars
        .into_iter()
        .map(|regular| regular.join().expect("it ends"))
        .sum();
    let metrics = envoy.until_balanced(RULE, 4000);
    let seen = upstream.seen();
    assert_eq!(seen.peak, 8, "{}", metrics.told());
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), served as f64);
    assert!(served < 4000, "it was never full");
}
