//! Names that would do harm where they are written down without care.

use std::{
    collections::BTreeSet,
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tidegate::protocol::postgres;

use super::vices::{NASTY, startup};
use crate::harness::{
    Bootstrap, Conduct, Envoy, Event, HTTP, PATIENCE, POSTGRES, TCP, Upstream,
    client::rest,
    connect,
    http::{ask_with, try_answer},
    tls::greeting,
};

/// What is normal is told, so that a surge is one soon.
const SURGE: &str = r#""surge": {"baseline_per_s": 1, "min_excess": 5}"#;

/// Comes with each of these first words, again and again, until the surge is told.
fn come_until_told(envoy: &Envoy, rule: &str, to: SocketAddr, words: &[Vec<u8>]) -> Event {
    let since = Instant::now();
    loop {
        for words in words {
            let mut stream = connect(to);
            stream.write_all(words).ok();
            // Until it has been read.
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(event) = envoy.events_of(rule, "surge_started").pop() {
            return event;
        }
        assert!(since.elapsed() < PATIENCE, "there is no surge");
    }
}

fn names(metrics: &crate::harness::metrics::Metrics) -> BTreeSet<String> {
    let all = metrics.all.iter();
    let ours = all.filter(|series| series.name.contains("tidegate"));
    ours.map(|series| format!("{}{:?}", series.name, series.labels))
        .filter(|series| !series.contains("tidegate_hold_ms"))
        .collect()
}

/// Nothing but ASCII that can be printed, and no event but those that are JSON in one line.
fn assert_clean(envoy: &Envoy) {
    let log = envoy.log();
    let strange = log
        .chars()
        .find(|&c| c != '\n' && !(' '..='~').contains(&c));
    assert_eq!(strange, None, "{log}");
    for event in envoy.events() {
        let known = [
            "started",
            "surge_started",
            "surge_ended",
            "upstream_refusing",
        ];
        assert!(known.contains(&event.name.as_str()), "{}", event.json);
    }
}

/// As an event shows a key.
fn shown(key: &[u8]) -> String {
    key[..key.len().min(64)].escape_ascii().to_string()
}

/// The event names some of these, escaped, and nobody else.
fn assert_names(event: &Event, names: &[&[u8]]) {
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    let callers = event.callers();
    assert!(!callers.is_empty(), "{}", event.json);
    for caller in callers {
        assert!(
            names.iter().any(|name| name == caller),
            "{caller} in {names:?}"
        );
    }
}

fn started(bootstrap: &Bootstrap) -> Envoy {
    Envoy::start(bootstrap, 1)
}

#[test]
fn names_of_database_sessions_stay_within_their_line_and_out_of_metrics() {
    const RULE: &str = "orders-db";
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = POSTGRES
        .before(upstream.address)
        .with(&format!(r#""key": "postgres.application_name", {SURGE}"#));
    let envoy = started(&bootstrap);
    let to = envoy.listener(POSTGRES.listener);
    let before = names(&envoy.metrics());
    let words: Vec<_> = NASTY.iter().map(|name| startup(name)).collect();
    let event = come_until_told(&envoy, RULE, to, &words);
    assert_names(&event, &NASTY);
    assert_clean(&envoy);
    let metrics = envoy.until_quiet(RULE, 1);
    assert_eq!(names(&metrics), before);
}

#[test]
fn names_in_headers_stay_within_their_line_and_out_of_metrics_and_answers() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 100, "arrivals_per_s": 30}"#)
        .hold_off()
        .with(&format!(r#""key": "header:x-caller", {SURGE}"#));
    let envoy = started(&bootstrap);
    let to = envoy.listener(HTTP.listener);
    let before = names(&envoy.metrics());
    let since = Instant::now();
    let mut bodies = BTreeSet::new();
    let event = loop {
        for name in NASTY {
            let stream = connect(to);
            ask_with(&stream, "/", "x-caller", name);
            // One that is no header is answered by Envoy.
            if let Ok(answer) = try_answer(&stream)
                && let Some(reason) = answer.header("x-tidegate-reason")
            {
                assert!(
                    reason
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                );
                bodies.insert(answer.body);
            }
        }
        if let Some(event) = envoy.events_of(RULE, "surge_started").pop()
            && !bodies.is_empty()
        {
            break event;
        }
        assert!(since.elapsed() < PATIENCE, "no surge, or nobody is refused");
    };
    // The header that has another one in it is two.
    let mut known = NASTY.to_vec();
    known.push(b"a");
    assert_names(&event, &known);
    assert_clean(&envoy);
    assert_eq!(
        bodies.len(),
        1,
        "a refusal says the same to everybody: {bodies:?}"
    );
    let metrics = envoy.until_quiet(RULE, 1);
    assert_eq!(names(&metrics), before);
}

#[test]
fn names_of_hosts_in_tls_stay_within_their_line_and_out_of_metrics() {
    const RULE: &str = "service";
    const INSPECTED: &str = r#"    listener_filters:
    - name: tls_inspector
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
    filter_chains:
"#;
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .with(&format!(r#""key": "sni", {SURGE}"#))
        .set("    filter_chains:\n", INSPECTED);
    let envoy = started(&bootstrap);
    let to = envoy.listener(TCP.listener);
    let before = names(&envoy.metrics());
    // Real greetings, in which other bytes stand for the host.
    let hello = |name: &&[u8]| {
        let host = "h".repeat(name.len());
        let mut greeting = greeting(&host);
        let at = greeting
            .windows(host.len())
            .position(|part| part == host.as_bytes());
        let at = at.expect("the host");
        greeting[at..at + name.len()].copy_from_slice(name);
        greeting
    };
    let words: Vec<_> = NASTY.iter().map(hello).collect();
    let event = come_until_told(&envoy, RULE, to, &words);
    let mut known: Vec<Vec<u8>> = NASTY.iter().map(|name| name.to_ascii_lowercase()).collect();
    known.push(Vec::new());
    let known: Vec<&[u8]> = known.iter().map(Vec::as_slice).collect();
    assert_names(&event, &known);
    assert_clean(&envoy);
    let metrics = envoy.until_quiet(RULE, 1);
    assert_eq!(names(&metrics), before);
}

#[test]
fn a_refused_session_reads_the_same_whatever_it_is_called() {
    let upstream = Upstream::start(Conduct::Mute);
    let bootstrap = POSTGRES
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off()
        .with(r#""key": "postgres.application_name""#);
    let envoy = started(&bootstrap);
    let to = envoy.listener(POSTGRES.listener);
    let first = connect(to);
    upstream.until_open(1);
    let mut answers = BTreeSet::new();
    for name in NASTY {
        let mut stream = connect(to);
        stream.write_all(&startup(name)).expect("sent");
        answers.insert(rest(&mut stream));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| postgres::is_too_many(answer)));
    drop(first);
    envoy.until_quiet("orders-db", NASTY.len() + 1);
}
