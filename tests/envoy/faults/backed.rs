//! The faults that exceed the limit, with the backstop: Envoy's own circuit breaker at the limit. And
//! that it refuses nobody else.

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    CALM, LIMIT, RULE, all_live, faults, heard, is_whole, limited_to, lives,
    machines::{silent_while_it_dies, until_trapped},
    neighbours::{BUSY, GARBAGE, sabotage, sabotaged},
    served,
    workers::STORM,
};
use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, Fuse, HTTP, TCP, Upstream, block_on, connect, fate, fates,
    fused,
    http::{self, try_answer},
    knock, knocks,
    metrics::Metrics,
    places::{Folder, notice},
};

/// The shipped bootstrap with this limit, and the backstop there.
fn backed(upstream: SocketAddr) -> Bootstrap {
    limited_to(upstream, LIMIT).backed(LIMIT)
}

/// How many Envoy's circuit breaker has refused.
fn broken(metrics: &Metrics) -> f64 {
    let of = |counter| metrics.sum(&format!("envoy_cluster_upstream_{counter}_overflow"), &[]);
    of("cx") + of("rq_active") + of("rq_pending")
}

/// Whether Envoy's circuit breaker would refuse the next.
fn full(metrics: &Metrics, what: &str) -> f64 {
    let gauge = format!("envoy_cluster_circuit_breakers_default_{what}_open");
    metrics.sum(&gauge, &[])
}

#[test]
fn silent_connections_of_a_dead_machine_have_their_places_at_the_upstream_still() {
    let upstream = Upstream::start(Conduct::Echo);
    let (bootstrap, _module) = fused(backed(upstream.address).inspecting());
    let envoy = Envoy::start(&bootstrap, 1).complains();
    let to = envoy.listener(TCP.listener);
    let mut silent = silent_while_it_dies(&envoy, to);
    let (new, refused) = heard(knocks(to, LIMIT));
    assert_eq!((new.len(), refused), (LIMIT - 4, 4));
    envoy.until_rule(RULE, "tidegate_inflight", new.len() as f64);
    assert_eq!(broken(&envoy.metrics()), 4.0);
    assert!(!silent.iter_mut().any(lives));
    upstream.until_open(new.len());
    drop((silent, new));
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert_eq!(broken(&envoy.metrics()), 4.0);
}

#[test]
fn a_worker_that_stands_still_lets_nobody_take_its_places_at_the_upstream() {
    let folder = Folder::new();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = sabotaged(backed(upstream.address), &folder);
    let envoy = Envoy::start(&bootstrap, 2);
    let (to, saboteur) = (envoy.listener(TCP.listener), envoy.listener("saboteur"));
    let mut open = served(to, LIMIT);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    let mut busy = knock(saboteur, &"x".repeat(BUSY));
    envoy.until("the one that stands still should be buried", |metrics| {
        faults(metrics, "worker_reaped") == 1.0
    });
    // Some of these wait until it goes on.
    let (none, all) = heard(knocks(to, LIMIT));
    assert_eq!((none.len(), all), (0, LIMIT));
    assert_eq!(fate(&mut busy), Fate::Served);
    all_live(&mut open);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    let stopped = broken(&envoy.metrics());
    notice(&format!(
        "while a worker stood still, the backstop refused {stopped} of {LIMIT}"
    ));
    drop((open, busy));
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert_eq!(broken(&envoy.metrics()), stopped);
}

#[test]
fn garbage_where_the_workers_share_lets_nobody_through_to_a_full_upstream() {
    let folder = Folder::new();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = sabotaged(backed(upstream.address), &folder);
    let envoy = Envoy::start(&bootstrap, 2).complains();
    let (to, saboteur) = (envoy.listener(TCP.listener), envoy.listener("saboteur"));
    let mut open = served(to, LIMIT);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    assert_eq!(full(&envoy.metrics(), "cx"), 1.0);
    for number in 1..=GARBAGE.len() {
        let before = faults(&envoy.metrics(), "record_replaced");
        sabotage(saboteur, number);
        let (none, all) = fates(knocks(to, 5));
        assert_eq!((none.len(), all), (0, 5));
        envoy.until("it should be noticed", |metrics| {
            faults(metrics, "record_replaced") > before
        });
    }
    all_live(&mut open);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    let stopped = broken(&envoy.metrics());
    notice(&format!(
        "between garbage and the next beats, the backstop refused {stopped}"
    ));
    drop(open);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert_eq!(broken(&envoy.metrics()), stopped);
}

#[test]
fn a_plugin_that_is_gone_for_good_leaves_the_limit_to_envoy() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = backed(upstream.address).inspecting();
    let (bootstrap, _module) = fused(bootstrap.set("FAIL_RELOAD", "FAIL_OPEN"));
    let envoy = Envoy::start(&bootstrap, 1).complains();
    let to = envoy.listener(TCP.listener);
    let mut fatal = connect(to);
    fatal.write_all(&Fuse::AtOnce.bytes()).expect("sent");
    until_trapped(&envoy);
    drop(fatal);
    upstream.until_open(0);
    for _ in 0..2 {
        let (new, refused) = heard(knocks(to, LIMIT + 5));
        assert_eq!((new.len(), refused), (LIMIT, 5));
        drop(new);
        upstream.until_open(0);
    }
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn requests_have_a_backstop_over_http_1_and_idle_connections_take_no_place_in_it() {
    let upstream = Upstream::start(Conduct::Http);
    let limits = format!(r#"{{"inflight": {LIMIT}}}"#);
    let bootstrap = HTTP.before(upstream.address).limits(&limits).with(CALM);
    let bootstrap = bootstrap.mode("shadow").backed(LIMIT);
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    for _ in 0..3 {
        upstream.seize();
        let asked: Vec<_> = (0..LIMIT + 5).map(|_| http::ask(api, "/")).collect();
        upstream.until_open(LIMIT);
        envoy.until("the others should be refused", |metrics| {
            metrics.sum("envoy_cluster_upstream_rq_active", &[]) == LIMIT as f64
                && metrics.sum(
                    "envoy_http_downstream_rq_active",
                    &[("envoy_http_conn_manager_prefix", "api")],
                ) == LIMIT as f64
        });
        assert_eq!(full(&envoy.metrics(), "rq"), 1.0);
        upstream.release();
        let answers: Vec<_> = asked.into_iter().map(http::answer).collect();
        let refused = answers.iter().filter(|answer| answer.status == 503);
        let refused = refused.filter(|answer| answer.header("x-envoy-overloaded").is_some());
        assert_eq!(refused.count(), 5, "{answers:?}");
        let good = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(good.count(), LIMIT);
    }
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn nobody_whom_the_plugin_lets_through_is_refused_in_a_storm_of_connections() {
    for workers in 1..=8 {
        let upstream = Upstream::start(Conduct::Echo);
        let envoy = Envoy::start(&backed(upstream.address), workers);
        let to = envoy.listener(TCP.listener);
        let storm = block_on(STORM.rage(to, &upstream, LIMIT));
        let metrics = envoy.until_balanced(RULE, storm.attempts);
        assert_eq!(broken(&metrics), 0.0, "{workers} workers: {storm:?}");
        is_whole(&envoy, to, &upstream);
        assert_eq!(upstream.seen().peak, LIMIT, "{workers} workers: {storm:?}");
        assert_eq!(broken(&envoy.metrics()), 0.0);
    }
}

/// What became of requests.
#[derive(Debug, Default)]
struct Answered {
    served: usize,
    by_us: usize,
    by_envoy: usize,
}

/// One client that asks again as soon as it is answered, over one connection.
async fn ask_again_and_again(to: SocketAddr, until: Instant) -> Answered {
    let mut answered = Answered::default();
    let mut stream = TcpStream::connect(to).await.expect("connected");
    stream.set_nodelay(true).expect("no delay");
    let mut bytes = Vec::new();
    while Instant::now() < until {
        let request = b"GET / HTTP/1.1\r\nhost: api.example\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        bytes.clear();
        let response = loop {
            let size = stream.read_buf(&mut bytes).await.expect("an answer");
            assert!(size > 0, "it was closed");
            if let Ok(response) = try_answer(bytes.as_slice()) {
                break response;
            }
        };
        match (response.status, response.header("x-tidegate-reason")) {
            (200, _) => answered.served += 1,
            (_, Some(_)) => answered.by_us += 1,
            (_, None) => answered.by_envoy += 1,
        }
    }
    answered
}

#[test]
fn nobody_whom_the_plugin_lets_through_is_refused_in_a_storm_of_requests() {
    for workers in 1..=8 {
        let upstream = Upstream::start(Conduct::Http);
        upstream.take(Duration::from_millis(2));
        upstream.release();
        let limits = format!(r#"{{"inflight": {LIMIT}}}"#);
        let bootstrap = HTTP.before(upstream.address).limits(&limits).with(CALM);
        let envoy = Envoy::start(&bootstrap.backed(LIMIT), workers);
        let to = envoy.listener(HTTP.listener);
        let until = Instant::now() + STORM.lasts;
        let all = block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..STORM.clients {
                clients.spawn(ask_again_and_again(to, until));
            }
            let mut all = Answered::default();
            while let Some(one) = clients.join_next().await {
                let one = one.expect("no panic");
                all.served += one.served;
                all.by_us += one.by_us;
                all.by_envoy += one.by_envoy;
            }
            all
        });
        let metrics = envoy.until_quiet("api", all.served + all.by_us);
        let refused = (all.by_envoy, broken(&metrics));
        assert_eq!(refused, (0, 0.0), "{workers} workers: {all:?}");
        assert_eq!(upstream.seen().peak, LIMIT, "{workers} workers: {all:?}");
    }
}
