//! Any number of workers.

use std::time::Duration;

use super::{LIMIT, RULE, is_whole, limited_to};
use crate::harness::{Conduct, Envoy, Storm, TCP, Upstream, block_on};

/// Ten times as many as there are slots.
pub const STORM: Storm = Storm {
    clients: 100,
    stays: Duration::from_millis(50),
    away: Duration::from_millis(20),
    lasts: Duration::from_secs(1),
};

#[test]
fn a_storm_takes_every_slot_and_never_more_with_one_worker_as_with_eight() {
    for workers in 1..=8 {
        let upstream = Upstream::start(Conduct::Echo);
        let envoy = Envoy::start(&limited_to(upstream.address, LIMIT), workers);
        let to = envoy.listener(TCP.listener);
        let storm = block_on(STORM.rage(to, &upstream, LIMIT));
        envoy.until_balanced(RULE, storm.attempts);
        is_whole(&envoy, to, &upstream);
        assert_eq!(upstream.seen().peak, LIMIT, "{workers} workers: {storm:?}");
    }
}
