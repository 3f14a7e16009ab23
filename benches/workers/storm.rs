//! A storm of connections before the real Envoy.

use std::time::Duration;

use crate::{
    harness::{Conduct, Envoy, Storm, TCP, Upstream, block_on},
    table::Row,
};

const WORKERS: u32 = 8;
const LIMIT: usize = 100;

/// 2,000 clients want 100 places; each stays for a second.
pub fn row(quick: bool) -> Row {
    let storm = Storm {
        clients: 2_000,
        stays: Duration::from_secs(1),
        away: Duration::from_millis(100),
        lasts: Duration::from_secs(if quick { 8 } else { 20 }),
    };
    let upstream = Upstream::start(Conduct::Echo);
    let limits = format!(r#"{{"inflight": {LIMIT}}}"#);
    let bootstrap = TCP.before(upstream.address).limits(&limits);
    let envoy = Envoy::start(&bootstrap, WORKERS);
    let to = envoy.listener(TCP.listener);
    let outcome = block_on(storm.rage(to, &upstream, LIMIT));
    Row::new(format!(
        "Envoy, {WORKERS} workers, {LIMIT} slots, {} clients over TCP: leases",
        storm.clients
    ))
    .number("peak", upstream.seen().peak as f64)
    .number("open", outcome.mean_open)
    .number("refused", (outcome.attempts - outcome.served) as f64)
    .at_most("peak", LIMIT as f64)
    .at_least("open", LIMIT as f64 - 1.0)
}
