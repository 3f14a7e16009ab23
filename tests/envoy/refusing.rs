//! Upstreams that refuse.

use std::{
    io::Read,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio_postgres::{config::SslMode, error::SqlState};

use crate::harness::{
    Conduct, Envoy, Event, HTTP, Load, MYSQL, POSTGRES, TCP, Upstream, block_on, connect,
    http::get,
    mariadb::{MariaDb, programs},
    places,
    postgres::{Postgres, login, written},
    relay::{ENCRYPTED, Relay},
    until,
};

const REFUSALS: &str = "tidegate_upstream_refusals_total";
const REFUSING: &str = "upstream_refusing";

/// No surge here.
const CALM: &str = r#""surge": {"baseline_per_s": 5000}"#;

/// The event is about an upstream that refused so many at least.
fn refused(event: &Event, least: f64) {
    assert!(event.number("refused") >= least, "{}", event.json);
}

/// Nothing was told but the start, and nothing counted.
fn nothing_is_told(envoy: &Envoy, rule: &str) {
    let metrics = envoy.metrics();
    assert_eq!(metrics.rule(rule, REFUSALS), 0.0, "{}", metrics.told());
    let events = envoy.events();
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn an_upstream_that_answers_503_is_told_of_and_one_that_answers_is_not() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = HTTP.before(upstream.address).with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(HTTP.listener);
    for _ in 0..200 {
        assert_eq!(get(address, "/").status, 200);
    }
    envoy.until_quiet(RULE, 200);
    nothing_is_told(&envoy, RULE);

    upstream.be_busy();
    let mut asked = 0;
    let event = until(|| {
        for _ in 0..20 {
            assert_eq!(get(address, "/").status, 503);
        }
        asked += 20;
        let event = envoy.events_of(RULE, REFUSING).pop();
        event.ok_or_else(|| "it is not told".to_owned())
    });
    refused(&event, 5.0);
    let metrics = envoy.until_quiet(RULE, 200 + asked);
    // While all is well one in 16 is looked at; a worker that has seen one looks at all.
    let counted = metrics.rule(RULE, REFUSALS);
    let most = asked as f64;
    let own = metrics.rejected(RULE, "hot_caller");
    assert_eq!(own, 0.0, "these were no surge: {}", metrics.told());
    assert!(counted >= most - 30.0 && counted <= most, "{counted}");
}

#[test]
fn our_own_refusals_are_not_the_upstreams() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"arrivals_per_s": 1}"#)
        .hold_off()
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(HTTP.listener);
    let answers: Vec<u16> = (0..100).map(|_| get(address, "/").status).collect();
    assert!(answers.iter().filter(|status| **status == 503).count() > 50);
    envoy.until_quiet(RULE, 100);
    nothing_is_told(&envoy, RULE);
}

#[test]
fn what_envoys_circuit_breaker_refuses_is_not_the_upstreams_refusal() {
    const LIMIT: f64 = 20.0;
    const LEAST: f64 = 50.0;
    // Lower than the limit, so that it is what refuses.
    const CEILING: usize = 5;
    let [web, plain] = [Conduct::Http, Conduct::Echo].map(Upstream::start);
    web.release();
    web.take(Duration::from_secs(1));
    let bootstraps = [(HTTP, &web), (TCP, &plain)].map(|(shipped, upstream)| {
        let bootstrap = shipped.before(upstream.address).backed(CEILING);
        let bootstrap = bootstrap.limits(&format!(r#"{{"inflight": {LIMIT}}}"#));
        bootstrap.with(&format!(r#""adaptive": true, {CALM}"#))
    });
    let [http, tcp] = bootstraps;
    let envoy = Envoy::start(&http.beside(&tcp), 2);
    for (shipped, rule, counter, words) in [
        (
            HTTP,
            "api",
            "envoy_cluster_upstream_rq_active_overflow",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            TCP,
            "service",
            "envoy_cluster_upstream_cx_overflow",
            "knock",
        ),
    ] {
        let load = Load {
            words: words.as_bytes(),
            stay: Duration::from_secs(1),
            ..Load::new(envoy.listener(shipped.listener), 40.0)
        };
        let load = load.start();
        let cluster = [("envoy_cluster_name", rule)];
        envoy.until("many should be refused by Envoy", |metrics| {
            metrics.sum(counter, &cluster) >= LEAST
        });
        let sent = load.end();
        let metrics = envoy.until_quiet(rule, sent.count);
        assert_eq!(metrics.rule(rule, REFUSALS), 0.0, "{}", metrics.told());
        assert_eq!(metrics.rule(rule, "tidegate_inflight_limit"), LIMIT);
        assert_eq!(metrics.rule(rule, "tidegate_rejected_total"), 0.0);
        // Nobody is named for it, and nothing is lowered.
        for event in [REFUSING, "limit_lowered", "surge_started"] {
            let told = envoy.events_of(rule, event);
            assert!(told.is_empty(), "{told:?}");
        }
    }
    assert_eq!(
        [web, plain].map(|upstream| upstream.seen().peak),
        [CEILING; 2]
    );
}

#[test]
fn an_upstream_that_cannot_be_connected_to_is_told_of_at_once_and_then_every_ten_seconds() {
    const RULE: &str = "service";
    let nowhere = SocketAddr::from(([127, 0, 0, 1], places::free_port()));
    let envoy = Envoy::start(&TCP.before(nowhere).with(CALM), 2);
    let load = Load::new(envoy.listener(TCP.listener), 20.0).start();
    let first = envoy.until_event(RULE, REFUSING);
    refused(&first, 5.0);
    let lines = until(|| {
        let lines = envoy.events_of(RULE, REFUSING);
        let enough = lines.len() >= 2;
        enough.then_some(lines).ok_or_else(|| "one line".to_owned())
    });
    assert!(lines[1].at_ms - first.at_ms >= 10_000, "{lines:?}");
    refused(&lines[1], 20.0);
    let sent = load.end();
    let metrics = envoy.until_quiet(RULE, sent.count);
    assert_eq!(metrics.rule(RULE, REFUSALS), sent.count as f64);
}

#[test]
fn an_upstream_that_accepts_and_says_nothing_is_told_of_and_one_that_is_left_quickly_is_not() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Mute);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 1000}"#)
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(TCP.listener);
    // Whoever leaves after 50 ms does not know.
    let load = Load::new(address, 40.0).start();
    envoy.until("some should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 40.0
    });
    let sent = load.end();
    envoy.until_quiet(RULE, sent.count);
    nothing_is_told(&envoy, RULE);

    let load = Load {
        stay: Duration::from_millis(1300),
        ..Load::new(address, 20.0)
    };
    let load = load.start();
    refused(&envoy.until_event(RULE, REFUSING), 5.0);
    let silent = envoy.metrics().rule(RULE, REFUSALS);
    assert!(silent >= 5.0, "{silent}");

    // It speaks again: those that come now are served, however long they stay.
    upstream.release();
    let more = load.end();
    let total = sent.count + more.count;
    envoy.until_quiet(RULE, total);
    let before = envoy.metrics().rule(RULE, REFUSALS);
    let streams: Vec<_> = (0..10).map(|_| connect(address)).collect();
    let since = Instant::now();
    for mut stream in &streams {
        stream.read_exact(&mut [0; 5]).expect("a greeting");
    }
    std::thread::sleep(Duration::from_millis(1300).saturating_sub(since.elapsed()));
    drop(streams);
    let metrics = envoy.until_quiet(RULE, total + 10);
    assert_eq!(metrics.rule(RULE, REFUSALS), before, "{}", metrics.told());
}

#[test]
fn an_upstream_that_answers_no_request_is_told_of_and_one_that_is_left_quickly_is_not() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 1000}"#)
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let asking = Load {
        words: b"GET / HTTP/1.1\r\nhost: api.example\r\n\r\n",
        ..Load::new(envoy.listener(HTTP.listener), 40.0)
    };
    let load = asking.start();
    envoy.until("some should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 40.0
    });
    let sent = load.end();
    envoy.until_quiet(RULE, sent.count);
    nothing_is_told(&envoy, RULE);

    let load = Load {
        stay: Duration::from_millis(1300),
        ..asking
    };
    let load = load.start();
    refused(&envoy.until_event(RULE, REFUSING), 5.0);

    // Whoever comes now is answered, and may stay as long as it likes.
    upstream.release();
    let total = sent.count + load.end().count;
    envoy.until_quiet(RULE, total);
    let before = envoy.metrics().rule(RULE, REFUSALS);
    assert!(before >= 5.0, "{before}");
    let load = Load {
        stay: Duration::from_millis(1300),
        ..asking
    };
    let load = load.start();
    envoy.until("some should have come", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= total as f64 + 40.0
    });
    let total = total + load.end().count;
    let metrics = envoy.until_quiet(RULE, total);
    assert_eq!(metrics.rule(RULE, REFUSALS), before, "{}", metrics.told());
}

#[test]
fn an_upstream_that_connects_within_a_second_but_more_slowly_than_it_does_is_told_of() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let relay = Relay::start();
    let bootstrap = TCP
        .before(relay.address)
        .limits(r#"{"inflight": 1000}"#)
        .with(CALM);
    let (bootstrap, _authority) = relay.slows_connects(bootstrap, upstream.address);
    let envoy = Envoy::start(&bootstrap, 2);
    relay.lead_to(envoy.listener(ENCRYPTED));
    let address = envoy.listener(TCP.listener);
    let staying = |stay, per_s| Load {
        stay: Duration::from_millis(stay),
        ..Load::new(address, per_s)
    };
    let load = staying(100, 40.0).start();
    envoy.until("it should be known what is usual", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 120.0
    });
    let sent = load.end().count;
    envoy.until_quiet(RULE, sent);
    nothing_is_told(&envoy, RULE);

    relay.delay(Duration::from_millis(500));
    let load = staying(800, 20.0).start();
    refused(&envoy.until_event(RULE, REFUSING), 5.0);
    let more = load.end().count;
    let metrics = envoy.until_quiet(RULE, sent + more);
    assert!(metrics.rule(RULE, REFUSALS) <= more as f64);
}

#[test]
fn a_database_that_says_itself_that_it_is_full_is_told_of() {
    const RULE: &str = "orders-db";
    let database = Postgres::for_sessions(5);
    let bootstrap = POSTGRES
        .before(database.address)
        .limits("{\"inflight\": 1000}")
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(POSTGRES.listener);
    let refusals = block_on(async {
        let mut clients = Vec::new();
        let mut refusals = 0;
        while refusals < 20 {
            match login(address, SslMode::Disable).await {
                Ok(client) => clients.push(client),
                Err(error) => {
                    let code = error.as_db_error().map(|error| error.code().clone());
                    assert_eq!(code, Some(SqlState::TOO_MANY_CONNECTIONS));
                    refusals += 1;
                }
            }
            assert!(clients.len() <= 5, "more than the database has places for");
        }
        refusals
    });
    refused(&envoy.until_event(RULE, REFUSING), 5.0);
    let metrics = envoy.until("all should be counted", |metrics| {
        metrics.rule(RULE, REFUSALS) >= f64::from(refusals)
    });
    assert_eq!(metrics.rule(RULE, REFUSALS), f64::from(refusals));
    assert_eq!(metrics.rule(RULE, "tidegate_rejected_total"), 0.0);
}

#[test]
fn a_mariadb_that_says_itself_that_it_is_full_is_told_of() {
    const RULE: &str = "orders-db";
    const SESSIONS: usize = 10;
    let Some(programs) = programs("a_mariadb_that_says_itself_that_it_is_full_is_told_of") else {
        return;
    };
    let database = MariaDb::for_sessions(&programs, SESSIONS as u32);
    let bootstrap = MYSQL
        .before(database.address)
        .limits("{\"inflight\": 1000}")
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(MYSQL.listener);
    let mut sessions = Vec::new();
    let mut refusals = 0;
    while refusals == 0 {
        let mut stream = connect(address);
        let mut head = [0; 5];
        stream.read_exact(&mut head).expect("the first packet");
        match head[4] {
            0xff => refusals += 1,
            _ => sessions.push(stream),
        }
        assert!(
            sessions.len() <= SESSIONS + 1,
            "more than it has places for"
        );
    }
    assert!(sessions.len() >= SESSIONS);
    for _ in 0..20 {
        let client = programs.client(address, "SELECT 1").output();
        let (rows, said) = written(&client.expect("it runs"));
        assert_eq!(rows, "");
        assert!(
            said.contains("ERROR 1040") && said.contains("Too many connections"),
            "{said}"
        );
        refusals += 1;
    }
    refused(&envoy.until_event(RULE, REFUSING), 5.0);
    let metrics = envoy.until("all should be counted", |metrics| {
        metrics.rule(RULE, REFUSALS) >= f64::from(refusals)
    });
    assert_eq!(metrics.rule(RULE, REFUSALS), f64::from(refusals));
    assert_eq!(metrics.rule(RULE, "tidegate_rejected_total"), 0.0);
}
