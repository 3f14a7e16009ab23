//! `reject.slow` over HTTP: the refusals of a hot caller are kept for a while.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::harness::{
    Conduct, Envoy, HTTP, Upstream, Visits, block_on, connect, http::ask_with, metrics::Metrics,
    until,
};

const RULE: &str = "api";
const CALLER: &str = "x-caller";

/// What is open at once at most.
const LIMIT: f64 = 12.0;

/// An Envoy that knows a steady caller with about five open, whose upstream answers nobody now.
fn envoy(upstream: &Upstream, slow: &str) -> Envoy {
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(&format!(r#"{{"inflight": {LIMIT}}}"#))
        .hold_off()
        .with(r#""key": "header:x-caller", "surge": {"baseline_per_s": 5000}"#)
        .set(
            r#""retry_after": "2s""#,
            &format!(r#""retry_after": "2s", "slow": "{slow}", "max_slow": 20"#),
        );
    let envoy = Envoy::start(&bootstrap, 1);
    upstream.release();
    upstream.take(Duration::from_millis(250));
    let steady = requests(&envoy, "steady", 20.0).start();
    envoy.until("a steady caller should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 160.0
    });
    steady.end();
    upstream.seize();
    envoy
}

fn requests(envoy: &Envoy, name: &str, per_s: f64) -> Visits {
    Visits {
        to: envoy.listener(HTTP.listener),
        header: CALLER,
        names: vec![name.to_owned()],
        per_s,
    }
}

/// How often there was no room for one more.
fn full(metrics: &Metrics) -> f64 {
    metrics.sum(
        "tidegate_faults_total",
        &[("rule", RULE), ("kind", "refusals_full")],
    )
}

#[test]
fn the_refusal_of_a_hot_callers_request_is_kept_for_a_while_and_costs_no_slot() {
    let upstream = Upstream::start(Conduct::Http);
    let envoy = envoy(&upstream, "2s");
    let flood = requests(&envoy, "culprit", 100.0).start();
    let metrics = envoy.until("the flood should be refused as what it is", |metrics| {
        metrics.rejected(RULE, "hot_caller") >= 100.0
    });
    assert!(metrics.rule(RULE, "tidegate_inflight") <= LIMIT);
    assert!(full(&metrics) > 0.0, "{}", metrics.told());
    let told = envoy.until_event(RULE, "fault");
    assert_eq!(told.text("kind"), "refusals_full");
    assert!(told.number("count") >= 1.0);
    upstream.release();
    let flood = flood.end();
    let refused: Vec<_> = flood.iter().filter(|visit| !visit.served()).collect();
    for visit in &refused {
        assert_eq!(visit.response.status, 503, "{visit:?}");
        assert_eq!(visit.reason(), Some("hot_caller"), "{visit:?}");
        assert!(visit.response.header("retry-after").is_some());
    }
    let kept = refused
        .iter()
        .filter(|visit| visit.took >= Duration::from_secs(1))
        .count();
    assert!(kept >= 20, "{kept} of {}", refused.len());
    assert!(upstream.seen().peak as f64 <= LIMIT);
}

/// One of the culprit's requests, which is not waited for.
fn culprits(to: SocketAddr) -> TcpStream {
    let stream = connect(to);
    ask_with(&stream, "/", CALLER, b"culprit");
    stream
}

#[test]
fn who_leaves_makes_room_for_another_refusal_and_over_http2_none_is_kept() {
    let upstream = Upstream::start(Conduct::Http);
    // Nobody's time is up in this test.
    let envoy = envoy(&upstream, "60s");
    let to = envoy.listener(HTTP.listener);
    let came = envoy.metrics().rule(RULE, "tidegate_arrivals_total");
    let mut open = Vec::new();
    let refused = |metrics: &Metrics| metrics.rejected(RULE, "hot_caller");
    loop {
        open.push(culprits(to));
        let metrics = envoy.until_rule(RULE, "tidegate_arrivals_total", came + open.len() as f64);
        if refused(&metrics) > 0.0 {
            break;
        }
    }
    drop(open.pop());
    for round in 1..=5 {
        let crowd: Vec<_> = (0..20).map(|_| culprits(to)).collect();
        envoy.until("they should be refused", |metrics| {
            refused(metrics) >= 1.0 + 20.0 * f64::from(round)
        });
        drop(crowd);
        let left = open.len() as f64;
        envoy.until("they should have left", |metrics| {
            metrics.sum("envoy_listener_downstream_cx_active", &[]) == left
        });
    }
    assert_eq!(full(&envoy.metrics()), 0.0, "{}", envoy.metrics().told());

    let since = Instant::now();
    let status = block_on(async {
        let stream = tokio::net::TcpStream::connect(to).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("ready");
        let request = http::Request::get("http://api.example/").header(CALLER, "culprit");
        let request = request.body(()).expect("a request");
        let (response, _) = client.send_request(request, true).expect("sent");
        response.await.expect("a response").status()
    });
    assert_eq!(status, 503);
    assert!(since.elapsed() < Duration::from_secs(20), "it was kept");
    envoy.until("it should be counted", |metrics| refused(metrics) == 102.0);
    drop(open);
    until(|| {
        let open = upstream.seen().open;
        (open == 0).then_some(()).ok_or_else(|| format!("{open}"))
    });
}
