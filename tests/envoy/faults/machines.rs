//! Virtual machines that trap.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    CALM, LIMIT, RULE, all_live, faults, is_whole, limited_to, lives, reloads, served, until_empty,
};
use crate::harness::{
    Bootstrap, Conduct, Delivered, Envoy, Fate, Fuse, HTTP, Load, TCP, Upstream,
    client::rest,
    connect, fate, fates, fuse, fused,
    http::{self, Response},
    knock, knocks,
    places::notice,
    until,
};

/// How an end looks from outside: the machine that a worker has begun anew, and the slots of the
/// old one, which are nobody's any more.
fn until_buried(envoy: &Envoy, to: SocketAddr, since: Instant) {
    // The next that comes to this worker begins a machine, once the back-off is over.
    until(|| {
        drop(knock(to, "anybody"));
        let reloaded = reloads(&envoy.metrics());
        (reloaded == 1.0)
            .then_some(())
            .ok_or_else(|| format!("{reloaded} were begun anew"))
    });
    let served = since.elapsed();
    envoy.until("the dead should be buried", |metrics| {
        faults(metrics, "worker_reaped") == 1.0
    });
    let reaped = since.elapsed();
    notice(&format!(
        "a machine was begun anew after {served:.1?}, its slots were free after {reaped:.1?}"
    ));
}

/// A machine has failed.
pub fn until_trapped(envoy: &Envoy) {
    until(|| {
        let trapped = envoy.log().contains("unreachable");
        trapped.then_some(()).ok_or_else(|| "no trap".to_owned())
    });
}

/// A request that lights a fuse.
fn fatal_request(to: SocketAddr, fuse: Fuse) -> TcpStream {
    let mut stream = connect(to);
    let headers = "x-fuse: y\r\n".repeat(fuse.headers());
    let head = "GET /fatal HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n";
    let request = format!("{head}{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// Connections that have heard all that they said.
fn open(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams: Vec<_> = (0..count).map(|_| connect(to)).collect();
    all_live(&mut streams);
    streams
}

#[test]
fn a_machine_that_traps_takes_its_own_with_it_and_nobody_elses_wherever_it_traps() {
    for fuse in [Fuse::AtOnce, Fuse::Tick, Fuse::Delete] {
        let upstream = Upstream::start(Conduct::Echo);
        let (bootstrap, _module) = fused(limited_to(upstream.address, LIMIT).inspecting());
        let envoy = Envoy::start(&bootstrap, 2).complains();
        let to = envoy.listener(TCP.listener);
        let mut streams = open(to, LIMIT - 2);
        let mut fatal = connect(to);
        assert!(lives(&mut fatal));
        envoy.until_rule(RULE, "tidegate_inflight", (LIMIT - 1) as f64);

        fatal.write_all(&fuse.bytes()).expect("sent");
        if fuse == Fuse::Delete {
            fatal.read_exact(&mut fuse.bytes()).expect("an echo");
        }
        let fatal = (fuse != Fuse::Delete).then_some(fatal);
        until_trapped(&envoy);
        let since = Instant::now();
        // What the machine had is closed when the client or the upstream says the next word.
        assert!(fatal.is_none_or(|mut fatal| !lives(&mut fatal)));
        streams.retain_mut(lives);
        upstream.until_open(streams.len());
        until_buried(&envoy, to, since);
        envoy.until_rule(RULE, "tidegate_inflight", streams.len() as f64);

        // The others are as they were, and what they have counts.
        all_live(&mut streams);
        let (more, refused) = fates(knocks(to, LIMIT + 5 - streams.len()));
        assert_eq!((more.len() + streams.len(), refused), (LIMIT, 5));
        drop((more, streams));
        is_whole(&envoy, to, &upstream);
        assert_eq!(upstream.seen().peak, LIMIT, "{fuse:?}");
        let metrics = envoy.metrics();
        assert_eq!(
            metrics.rule(RULE, "tidegate_faults_total"),
            1.0,
            "{}",
            metrics.told()
        );
        assert_eq!(
            envoy.until_event(RULE, "fault").text("kind"),
            "worker_reaped"
        );
    }
}

#[test]
fn slots_that_a_machine_had_in_advance_are_free_when_it_is_buried() {
    const MANY: usize = 200;
    let upstream = Upstream::start(Conduct::Echo);
    let (bootstrap, _module) = fused(limited_to(upstream.address, MANY).inspecting());
    let envoy = Envoy::start(&bootstrap, 2).complains();
    let to = envoy.listener(TCP.listener);
    let load = Load {
        stay: Duration::from_millis(20),
        ..Load::new(to, 200.0)
    };
    let load = load.start();
    envoy.until("many should have come", |metrics| {
        metrics.rule(RULE, "tidegate_admitted_total") >= 200.0
    });
    let mut fatal = connect(to);
    fatal.write_all(&Fuse::AtOnce.bytes()).expect("sent");
    rest(&mut fatal);
    let since = Instant::now();
    drop(fatal);
    until_buried(&envoy, to, since);
    load.end();
    until_empty(&envoy);
    // What is idle elsewhere is given back to whoever asks for it again.
    let mut all = Vec::new();
    until(|| {
        all.extend(fates(knocks(to, MANY - all.len())).0);
        (all.len() == MANY)
            .then_some(())
            .ok_or_else(|| format!("{} have a slot;{}", all.len(), envoy.metrics().told()))
    });
    assert_eq!(fate(&mut knock(to, "more")), Fate::Refused);
    assert_eq!(upstream.seen().peak, MANY);
    drop(all);
    until_empty(&envoy);
}

/// Four connections that say nothing more, of the only machine, which traps and is buried.
pub fn silent_while_it_dies(envoy: &Envoy, to: SocketAddr) -> Vec<TcpStream> {
    let silent = open(to, 4);
    let mut fatal = connect(to);
    fatal.write_all(&Fuse::AtOnce.bytes()).expect("sent");
    rest(&mut fatal);
    drop(fatal);
    until_buried(envoy, to, Instant::now());
    envoy.until_rule(RULE, "tidegate_inflight", 0.0);
    silent
}

#[test]
fn silent_connections_of_a_dead_machine_stay_open_beyond_the_limit_until_they_speak() {
    let upstream = Upstream::start(Conduct::Echo);
    let (bootstrap, _module) = fused(limited_to(upstream.address, LIMIT).inspecting());
    let envoy = Envoy::start(&bootstrap, 1).complains();
    let to = envoy.listener(TCP.listener);
    let mut silent = silent_while_it_dies(&envoy, to);
    let new = served(to, LIMIT);
    assert_eq!(fate(&mut knock(to, "more")), Fate::Refused);
    assert_eq!(upstream.seen().peak, LIMIT + 4);
    // It is the first word that ends them.
    assert!(!silent.iter_mut().any(lives));
    upstream.until_open(LIMIT);
    drop((silent, new));
    upstream.peak_since();
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn a_machine_that_is_not_begun_anew_refuses_all_or_lets_all_pass_and_no_counter_says_so() {
    for (policy, served) in [("FAIL_CLOSED", 0), ("FAIL_OPEN", LIMIT + 5)] {
        let upstream = Upstream::start(Conduct::Echo);
        let bootstrap = limited_to(upstream.address, LIMIT)
            .inspecting()
            .set(
                "failure_policy: FAIL_RELOAD",
                &format!("failure_policy: {policy}"),
            )
            .set(
                "            reload_config: {backoff: {base_interval: 0.5s}}\n",
                "",
            );
        let (bootstrap, _module) = fused(bootstrap);
        let envoy = Envoy::start(&bootstrap, 1).complains();
        let to = envoy.listener(TCP.listener);
        let mut fatal = connect(to);
        fatal.write_all(&Fuse::AtOnce.bytes()).expect("sent");
        rest(&mut fatal);
        until_trapped(&envoy);
        let (all, refused) = fates(knocks(to, LIMIT + 5));
        assert_eq!(
            (all.len(), refused),
            (served, LIMIT + 5 - served),
            "{policy}"
        );
        // What alerts look at is as it was.
        let metrics = envoy.metrics();
        assert_eq!(reloads(&metrics), 0.0, "{policy}");
        assert_eq!(metrics.sum("tidegate_build_info", &[]), 1.0, "{policy}");
    }
}

/// A 503 that is not the plugin's.
fn by_envoy(answer: &Response) {
    let reason = answer.header("x-tidegate-reason");
    assert_eq!((answer.status, reason), (503, None));
}

/// One slot, and all the time to wait for it.
fn one_slot(bootstrap: Bootstrap) -> Bootstrap {
    let bootstrap = bootstrap.limits(r#"{"inflight": 1}"#).with(CALM);
    bootstrap.hold(r#"{"max_wait": "60s", "max_waiting": 8}"#)
}

#[test]
fn connections_that_a_dead_machine_held_take_no_slot_and_stay_until_their_listener_is_replaced() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = one_slot(TCP.before(upstream.address).inspecting());
    let (bootstrap, _module) = fused(bootstrap);
    let delivered = Delivered::first(&bootstrap);
    let envoy = Envoy::start_with(&delivered.bootstrap, 1, &["--drain-time-s", "1"]).complains();
    let to = envoy.listener(TCP.listener);
    let mut first = open(to, 1);
    let mut held = vec![knock(to, "held"), knock(to, "held")];
    envoy.until_rule(RULE, "tidegate_waiting", 2.0);
    first[0].write_all(&Fuse::Tick.bytes()).expect("sent");
    until_trapped(&envoy);
    let since = Instant::now();
    drop(first);
    upstream.until_open(0);
    until_buried(&envoy, to, since);

    // Nobody reads from them, so neither what they say nor that they leave is noticed.
    drop(held.pop());
    drop(served(to, 1));
    envoy.until("only those that are held should be there", |metrics| {
        metrics.rule(RULE, "tidegate_inflight") == 0.0
            && metrics.sum("envoy_listener_downstream_cx_active", &[]) == 2.0
    });
    assert!(!upstream.seen().said.contains(&"held".to_owned()));
    delivered.put(&bootstrap.limits(r#"{"inflight": 2}"#));
    assert!(rest(&mut held[0]).is_empty());
    until_empty(&envoy);
    assert_eq!(upstream.seen().peak, 1);
    drop(served(to, 2));
}

#[test]
fn requests_of_a_dead_machine_are_answered_by_envoy_and_new_ones_by_the_upstream() {
    const RULE: &str = "api";
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = one_slot(HTTP.before(upstream.address));
    let bootstrap = bootstrap.set("stream_idle_timeout: 60s", "stream_idle_timeout: 4s");
    let (bootstrap, _module) = fused(bootstrap);
    let envoy = Envoy::start(&bootstrap, 1).complains();
    let api = envoy.listener(HTTP.listener);
    let first = http::ask(api, "/first");
    upstream.until_open(1);
    let held = http::ask(api, "/held");
    envoy.until_rule(RULE, "tidegate_waiting", 1.0);
    let since = Instant::now();
    let answer = http::answer(fatal_request(api, Fuse::AtOnce));
    by_envoy(&answer);
    // The upstream has done its work, but nobody gives its answer to the client.
    upstream.release();
    let answer = http::answer(first);
    by_envoy(&answer);
    until(|| {
        let status = http::get(api, "/new").status;
        (status == 200)
            .then_some(())
            .ok_or_else(|| status.to_string())
    });
    let served = since.elapsed();
    let answer = http::answer(held);
    notice(&format!(
        "requests were served again after {served:.1?}, a held one was answered after {:.1?}",
        since.elapsed()
    ));
    by_envoy(&answer);
    envoy.until_rule(RULE, "tidegate_inflight", 0.0);
    assert_eq!(http::get(api, "/more").status, 200);
    assert_eq!(upstream.seen().peak, 1);
}

#[test]
fn a_configuration_at_which_the_machine_traps_is_refused_and_the_old_one_goes_on() {
    let upstream = Upstream::start(Conduct::Echo);
    let (good, _module) = fused(limited_to(upstream.address, LIMIT));
    let delivered = Delivered::first(&good);
    let envoy = Envoy::start(&delivered.bootstrap, 2).complains();
    let to = envoy.listener(TCP.listener);
    let mut streams = open(to, LIMIT);
    let long = " ".repeat(fuse::CONFIGURATION);
    let bad = good.limits(&format!(r#"{{"inflight":{long} 20}}"#));
    delivered.put(&bad);
    envoy.until("the update should be refused", |metrics| {
        metrics.sum("envoy_listener_manager_lds_update_rejected", &[]) == 1.0
    });
    until_trapped(&envoy);
    all_live(&mut streams);
    let (more, refused) = fates(knocks(to, 5));
    assert_eq!((more.len(), refused), (0, 5));
    drop(streams);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    let metrics = envoy.metrics();
    assert_eq!(
        (reloads(&metrics), faults(&metrics, "worker_reaped")),
        (0.0, 0.0)
    );
}

#[test]
fn the_shipped_modules_have_no_fuse() {
    let (web, plain) = (
        Upstream::start(Conduct::Http),
        Upstream::start(Conduct::Echo),
    );
    web.release();
    for inspects in [false, true] {
        let bootstrap = crate::delivery::both(&web, &plain, LIMIT);
        let text = bootstrap.text;
        let text = if inspects {
            text.replace("/tidegate.wasm", "/tidegate-inspect.wasm")
        } else {
            text
        };
        let envoy = Envoy::start(&Bootstrap { text }, 1);
        let (api, service) = (envoy.listener(HTTP.listener), envoy.listener(TCP.listener));
        let mut streams = open(service, 1);
        for fuse in [Fuse::AtOnce, Fuse::Tick, Fuse::Delete] {
            streams[0].write_all(&fuse.bytes()).expect("sent");
            let mut heard = fuse.bytes();
            streams[0].read_exact(&mut heard).expect("all of it");
            assert_eq!(http::answer(fatal_request(api, fuse)).status, 200);
        }
        drop(streams);
        // No machine failed on the way.
        envoy.until_quiet("api", 4);
    }
}
