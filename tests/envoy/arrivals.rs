//! `limits.arrivals_per_s`, over all workers.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Bootstrap, Conduct, Envoy, Fate, PATIENCE, TCP, Upstream, fate, knock};

const RULE: &str = "service";
const PER_S: f64 = 40.0;
/// How long arrivals are offered, without the time in which this machine was too busy to.
const OFFERED: Duration = Duration::from_secs(4);
/// A gap between two offers in which this machine was busy with something else.
const STUCK: Duration = Duration::from_millis(15);

/// Offers more than the limit for a while; all offered, and the time between first and last.
fn offer(envoy: &Envoy, wait: bool) -> (usize, Duration) {
    let service = envoy.listener(TCP.listener);
    let since = Instant::now();
    let (mut offered, mut last, mut stuck) = (0, since, Duration::ZERO);
    let mut open = Vec::new();
    while since.elapsed() - stuck < OFFERED && since.elapsed() < PATIENCE {
        let mut client = knock(service, "hello");
        offered += 1;
        if wait {
            open.push(client);
        } else {
            let _: Fate = fate(&mut client);
        }
        thread::sleep(Duration::from_millis(4));
        let gap = last.elapsed();
        if gap > STUCK {
            stuck += gap;
        }
        last = Instant::now();
    }
    (offered, since.elapsed())
}

/// What was admitted fits the limit, and makes use of it.
fn no_more_than_the_rate(bootstrap: &Bootstrap, upstream: &Upstream, wait: bool, reason: &str) {
    let bootstrap = bootstrap.clone().limits(r#"{"arrivals_per_s": 40}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let (offered, time) = offer(&envoy, wait);
    let metrics = envoy.until_balanced(RULE, offered);
    let admitted = upstream.seen().total as f64;
    assert!(offered as f64 > admitted, "no more was offered");
    assert!(
        admitted <= PER_S * (time.as_secs_f64() + 1.0),
        "{admitted} in {time:?}"
    );
    let least = 0.8 * PER_S * OFFERED.as_secs_f64();
    assert!(admitted >= least, "only {admitted} in {time:?}");
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), admitted);
    let rejected = metrics.rule(RULE, "tidegate_rejected_total");
    assert_eq!(metrics.rejected(RULE, reason), rejected);
}

#[test]
fn no_more_connections_than_the_rate_are_admitted_and_nearly_as_many_are() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP.before(upstream.address).hold_off();
    no_more_than_the_rate(&bootstrap, &upstream, false, "arrival_limit");
}

#[test]
fn connections_over_the_rate_wait_for_their_turn_when_there_is_a_hold() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .hold(r#"{"max_wait": "50ms", "max_waiting": 1024}"#);
    no_more_than_the_rate(&bootstrap, &upstream, true, "hold_timeout");
}
