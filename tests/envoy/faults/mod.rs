//! What goes wrong around the plugin, and inside of it. What was seen is in `docs/reliability.md`.

mod backed;
mod envoys;
mod machines;
mod neighbours;
mod time;
mod updates;
mod upstreams;
mod workers;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use crate::harness::{Bootstrap, Envoy, TCP, Upstream, fates, knocks, metrics::Metrics, until};

const RULE: &str = "service";

/// So many may be open at the upstream.
const LIMIT: usize = 10;

/// A few ticks.
const TICKS: Duration = Duration::from_millis(300);

/// No surge here, and no caller for whom a slot is kept: the faults are to be seen alone.
const CALM: &str = r#""key": "none", "surge": {"baseline_per_s": 5000}"#;

/// The shipped bootstrap with this limit; who does not fit is refused at once.
fn limited_to(upstream: SocketAddr, inflight: usize) -> Bootstrap {
    let limits = format!(r#"{{"inflight": {inflight}}}"#);
    let bootstrap = TCP.before(upstream).limits(&limits).hold_off();
    bootstrap.with(CALM)
}

/// Those of them that are served, and have heard all that they said; and how many were refused.
fn heard(knocking: Vec<TcpStream>) -> (Vec<TcpStream>, usize) {
    let (mut served, refused) = fates(knocking);
    for stream in &mut served {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).expect("an echo");
        assert_eq!(rest, *b"nock");
    }
    (served, refused)
}

/// So many that are all served.
fn served(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let (served, refused) = heard(knocks(to, count));
    assert_eq!((served.len(), refused), (count, 0));
    served
}

/// Comes again until it is served.
fn until_served(to: SocketAddr) -> TcpStream {
    until(|| {
        let served = heard(knocks(to, 1)).0.pop();
        served.ok_or_else(|| "it is refused".to_owned())
    })
}

/// Whether it still has its upstream: it says something more, and hears it.
fn lives(stream: &mut TcpStream) -> bool {
    let word = b"alive?";
    let mut heard = [0; 6];
    stream.write_all(word).is_ok() && stream.read_exact(&mut heard).is_ok() && heard == *word
}

/// Each of them still has its upstream.
fn all_live(streams: &mut [TcpStream]) {
    assert!(streams.iter_mut().all(lives));
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
    // Who came and left within a tick is in no book yet, and neither is the slot.
    thread::sleep(TICKS);
    until_empty(envoy);
    let (all, refused) = fates(knocks(to, LIMIT + 5));
    assert_eq!(
        (all.len(), refused),
        (LIMIT, 5),
        "{}",
        envoy.metrics().told()
    );
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
