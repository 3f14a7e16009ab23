//! Far more clients than there are slots, over many workers.

use std::time::Duration;

use crate::harness::{Conduct, Envoy, Storm, TCP, Upstream, block_on};

const RULE: &str = "service";
const LIMIT: usize = 20;
const STORM: Storm = Storm {
    clients: 300,
    stays: Duration::from_millis(300),
    away: Duration::from_millis(50),
    lasts: Duration::from_secs(4),
};

#[test]
fn a_storm_fills_every_slot_of_many_workers_and_never_more() {
    let upstream = Upstream::start(Conduct::Echo);
    let limits = format!(r#"{{"inflight": {LIMIT}}}"#);
    let bootstrap = TCP.before(upstream.address).limits(&limits);
    let envoy = Envoy::start(&bootstrap, 8);
    let to = envoy.listener(TCP.listener);
    // Calm first, so that the workers have taken some in advance.
    let calm = Storm {
        clients: 4,
        lasts: Duration::from_secs(1),
        ..STORM
    };
    let calm = block_on(calm.rage(to, &upstream, 1));
    assert_eq!(calm.attempts, calm.served);
    let storm = block_on(STORM.rage(to, &upstream, LIMIT));
    assert!(storm.served < storm.attempts, "{storm:?}");
    let metrics = envoy.until_balanced(RULE, calm.attempts + storm.attempts);
    assert_eq!(upstream.seen().peak, LIMIT, "{storm:?}");
    // Hardly any is free while so many want one.
    assert!(storm.mean_open > 0.5 * LIMIT as f64, "{storm:?}");
    let served = (calm.served + storm.served) as f64;
    assert!(metrics.rule(RULE, "tidegate_admitted_total") >= served);
}
