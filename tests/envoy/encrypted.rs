//! Who makes a surge, where TLS says who comes.

use std::{
    io::Read,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Conduct, Envoy, HTTP, Load, PATIENCE, TCP, Upstream, connect, http,
    tls::{Authority, Identity, TlsClient, greeting, shake_hands},
};

const TLS_INSPECTOR: &str = r#"    listener_filters:
    - name: tls_inspector
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
    filter_chains:
"#;

#[test]
fn a_surge_of_connections_names_the_host_that_they_ask_for() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 1000}"#)
        .with(r#""key": "sni", "surge": {"baseline_per_s": 20}"#)
        .set("    filter_chains:\n", TLS_INSPECTOR);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(TCP.listener);
    let asking_for = |host: &str, per_s| Load {
        words: greeting(host).leak(),
        ..Load::new(address, per_s)
    };
    let steady = asking_for("steady.example", 20.0).start();
    envoy.until("a steady load should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 40.0
    });
    let surge = asking_for("culprit.example", 200.0).start();
    let event = envoy.until_event(RULE, "surge_started");
    let sent = steady.end().count + surge.end().count;
    event.blames("culprit.example");
    assert_eq!(event.callers(), ["culprit.example", "steady.example"]);
    envoy.until_quiet(RULE, sent);
}

/// An authority, its server, and two peers.
fn peers() -> (Authority, Identity, [Identity; 2]) {
    let authority = Authority::new();
    let server = authority.vouch("server", "DNS:service.example");
    let peers = ["steady", "culprit"]
        .map(|name| authority.vouch(name, &format!("URI:spiffe://test/{name}")));
    (authority, server, peers)
}

#[test]
fn a_surge_of_requests_names_the_peer_that_its_certificate_names() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let (authority, server, [steady, culprit]) = peers();
    let tls = authority.listener(&server, true);
    let bootstrap = HTTP
        .before(upstream.address)
        .with(r#""key": "peer", "surge": {"baseline_per_s": 20}"#)
        .set(
            "    - filters:\n",
            &format!("    - transport_socket: {tls}\n      filters:\n"),
        );
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(HTTP.listener);
    let mut clients = [steady, culprit].map(|peer| TlsClient::connect(address, &peer));
    let since = Instant::now();
    let mut asked = 0;
    let event = loop {
        // One in twenty is somebody else.
        let client = &mut clients[usize::from(asked % 20 != 7)];
        client.say(b"GET / HTTP/1.1\r\nhost: api.example\r\n\r\n");
        let answer = http::try_answer(client).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        asked += 1;
        if let Some(event) = envoy.events_of(RULE, "surge_started").pop() {
            break event;
        }
        assert!(since.elapsed() < PATIENCE, "no surge after {asked}");
    };
    event.blames("spiffe://test/culprit");
}

/// Connects, says a word and reads the echo of it, until the end; who `stays` does so until then.
fn come_as(to: SocketAddr, peer: &Identity, every: Duration, stays: bool, end: &dyn Fn() -> bool) {
    let mut clients = Vec::new();
    while !end() {
        let mut client = TlsClient::connect(to, peer);
        client.say(b"knock");
        (&mut client).read_exact(&mut [0; 5]).expect("an echo");
        if stays {
            clients.push(client);
        }
        thread::sleep(every);
    }
}

/// A connection begins before its handshake: who comes is known a little later, be it open then or
/// not.
fn connections_of_a_peer(stay: bool) {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let (authority, server, [steady, culprit]) = peers();
    let tls = authority.listener(&server, true);
    let bootstrap = TCP
        .before(upstream.address)
        .with(r#""key": "peer", "surge": {"baseline_per_s": 2, "min_excess": 10}"#)
        .set(
            "    - filters:\n",
            &format!("    - transport_socket: {tls}\n      filters:\n"),
        );
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(TCP.listener);
    let since = Instant::now();
    let end = || {
        assert!(since.elapsed() < PATIENCE, "there is no surge");
        !envoy.events_of(RULE, "surge_started").is_empty()
    };
    thread::scope(|scope| {
        scope.spawn(|| come_as(address, &steady, Duration::from_millis(700), false, &end));
        for _ in 0..3 {
            scope.spawn(|| come_as(address, &culprit, Duration::from_millis(20), stay, &end));
        }
    });
    let event = envoy.until_event(RULE, "surge_started");
    event.blames("spiffe://test/culprit");
}

#[test]
fn a_surge_of_connections_that_stay_names_the_peer_that_their_certificate_names() {
    connections_of_a_peer(true);
}

#[test]
fn a_surge_of_short_connections_names_the_peer_that_their_certificate_names() {
    connections_of_a_peer(false);
}

#[test]
fn a_peer_that_floods_is_turned_out_when_it_has_shown_its_certificate() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let (authority, server, [_, culprit]) = peers();
    let tls = authority.listener(&server, true);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 8}"#)
        .with(r#""key": "peer", "surge": {"baseline_per_s": 5, "min_excess": 10}"#)
        .set(
            "    - filters:\n",
            &format!("    - transport_socket: {tls}\n      filters:\n"),
        );
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(TCP.listener);
    // Whoever stays without a word saturates the upstream.
    let _idle: Vec<_> = (0..6).map(|_| connect(address)).collect();
    let (since, done) = (Instant::now(), AtomicBool::new(false));
    let turned_out = || {
        let labels = [("rule", RULE), ("reason", "hot_caller")];
        envoy.metrics().sum("tidegate_rejected_total", &labels)
    };
    let mut out = 0.0;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    shake_hands(address, &culprit);
                }
            });
        }
        while out < 5.0 && since.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(200));
            out = turned_out();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(out >= 5.0, "{out} were turned out");
    assert!(upstream.seen().peak <= 8, "{}", upstream.seen().peak);
}
