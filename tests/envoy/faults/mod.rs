//! What goes wrong around the plugin, and inside of it. What was seen is in `docs/reliability.md`.

mod envoys;
mod machines;
mod neighbours;
mod time;
mod updates;
mod upstreams;
mod workers;

use std::net::{SocketAddr, TcpStream};

use crate::harness::{
    Bootstrap, Envoy, Fate, TCP, Upstream, fate, fates, knock, knocks, metrics::Metrics, until,
};

const RULE: &str = "service";

/// So many may be open at the upstream.
const LIMIT: usize = 10;

/// No surge here: the faults are to be seen alone.
const CALM: &str = r#""surge": {"baseline_per_s": 5000}"#;

/// The shipped bootstrap with this limit; who does not fit is refused at once.
fn limited_to(upstream: SocketAddr, inflight: usize) -> Bootstrap {
    let limits = format!(r#"{{"inflight": {inflight}}}"#);
    let bootstrap = TCP.before(upstream).limits(&limits).hold_off();
    bootstrap.with(CALM)
}

/// So many that are all served.
fn served(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let (served, refused) = fates(knocks(to, count));
    assert_eq!((served.len(), refused), (count, 0));
    served
}

/// Comes again until it is served.
fn until_served(to: SocketAddr) -> TcpStream {
    until(|| {
        let mut stream = knock(to, "again");
        match fate(&mut stream) {
            Fate::Served => Ok(stream),
            Fate::Refused => Err("it is refused".to_owned()),
        }
    })
}

/// Nothing is open any more, by all books.
fn until_empty(envoy: &Envoy) -> Metrics {
    envoy.until("nothing should be left open", |metrics| {
        metrics.rule(RULE, "tidegate_inflight") == 0.0
            && metrics.rule(RULE, "tidegate_waiting") == 0.0
            && metrics.sum("envoy_listener_downstream_cx_active", &[]) == 0.0
            && metrics.sum("envoy_cluster_upstream_cx_active", &[]) == 0.0
    })
}

/// Every slot can be had, and not one more; the books end at zero.
fn is_whole(envoy: &Envoy, to: SocketAddr, upstream: &Upstream) {
    until_empty(envoy);
    let (all, refused) = fates(knocks(to, LIMIT + 5));
    assert_eq!((all.len(), refused), (LIMIT, 5));
    upstream.until_open(LIMIT);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    drop(all);
    upstream.until_open(0);
    until_empty(envoy);
}

/// How often something went wrong of a kind.
fn faults(metrics: &Metrics, kind: &str) -> f64 {
    metrics.sum("tidegate_faults_total", &[("rule", RULE), ("kind", kind)])
}

/// How many machines were begun anew.
fn reloads(metrics: &Metrics) -> f64 {
    metrics.sum("envoy_wasm_tidegate_vm_reload_success", &[])
}
