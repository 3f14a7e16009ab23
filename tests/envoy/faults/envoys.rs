//! Envoys that drain, end, begin anew, and have enough.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{CALM, LIMIT, RULE, all_live, heard, is_whole, limited_to, served, until_empty};
use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, HTTP, Storm, TCP, Upstream, Visits, block_on,
    client::rest,
    fate, fates, knock, knocks,
    places::{Folder, lasting_port},
    until,
};

const STORM: Storm = Storm {
    clients: 60,
    stays: Duration::from_millis(100),
    away: Duration::from_millis(20),
    lasts: Duration::from_secs(4),
};

/// Listens at this port, so that another one can do so later.
fn at_port(bootstrap: Bootstrap, port: u16) -> Bootstrap {
    let any = "name: service\n    address: {socket_address: {address: 127.0.0.1, port_value: 0}}";
    bootstrap.set(
        any,
        &any.replace("port_value: 0", &format!("port_value: {port}")),
    )
}

#[test]
fn a_listener_that_is_drained_gracefully_serves_those_that_it_has() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = limited_to(upstream.address, LIMIT);
    let more = ["--drain-time-s", "2", "--drain-strategy", "immediate"];
    let envoy = Envoy::start_with(&bootstrap, 2, &more);
    let to = envoy.listener(TCP.listener);
    let mut open = served(to, LIMIT - 1);
    envoy.order("/drain_listeners?graceful");
    // Who comes meanwhile is served by the same limit.
    open.extend(served(to, 1));
    assert_eq!(fate(&mut knock(to, "more")), Fate::Refused);
    until(|| match TcpStream::connect(to) {
        Ok(_) => Err("it still listens".to_owned()),
        Err(_) => Ok(()),
    });
    all_live(&mut open);
    envoy.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    drop(open);
    let metrics = until_empty(&envoy);
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn an_envoy_that_calls_itself_unhealthy_and_healthy_again_loses_no_request() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.take(Duration::from_millis(50));
    upstream.release();
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(&format!(r#"{{"inflight": {LIMIT}}}"#))
        .hold(r#"{"max_wait": "10s", "max_waiting": 100}"#)
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let visiting = Visits {
        to: envoy.listener(HTTP.listener),
        header: "x-caller",
        names: vec!["somebody".to_owned()],
        per_s: 100.0,
    };
    let visiting = visiting.start();
    for path in ["/healthcheck/fail", "/healthcheck/ok"] {
        thread::sleep(Duration::from_millis(700));
        envoy.order(path);
    }
    thread::sleep(Duration::from_millis(700));
    let visits = visiting.end();
    assert!(visits.len() > 50);
    assert!(visits.iter().all(|visit| visit.served()));
    envoy.until_quiet("api", visits.len());
    assert!(upstream.seen().peak <= LIMIT);
}

#[test]
fn an_envoy_that_is_ended_or_killed_in_a_storm_leaves_nothing_to_the_next() {
    let port = lasting_port();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = at_port(limited_to(upstream.address, LIMIT), port);
    for signal in [Signal::TERM, Signal::KILL] {
        let mut envoy = Envoy::start(&bootstrap, 2);
        let to = envoy.listener(TCP.listener);
        let mut open = served(to, LIMIT / 2);
        let storm = Storm {
            lasts: Duration::from_secs(1),
            ..STORM
        };
        thread::scope(|scope| {
            let storm = scope.spawn(|| block_on(storm.rage(to, &upstream, LIMIT)));
            thread::sleep(Duration::from_millis(500));
            envoy.signal(signal);
            envoy.wait();
            storm.join().expect("no panic");
        });
        // Nobody is left alone with half of a connection, on neither side.
        for stream in &mut open {
            rest(stream);
        }
        upstream.until_open(0);
        drop(envoy);
        let envoy = Envoy::start(&bootstrap, 2);
        is_whole(&envoy, to, &upstream);
        assert_eq!(upstream.seen().peak, LIMIT, "{signal:?}");
        let metrics = envoy.metrics();
        assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
    }
}

/// What two Envoys share that hand over. They leave it behind.
struct Base {
    folder: Folder,
}

impl Base {
    fn new() -> Self {
        Self {
            folder: Folder::new(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("base-id")
    }

    fn id(&self) -> String {
        let id = fs::read_to_string(self.file()).expect("its id");
        id.trim().to_owned()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let memory = format!("/dev/shm/envoy_shared_memory_{}0", self.id());
        let removed = fs::remove_file(memory);
        assert!(thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

#[test]
fn an_envoy_that_takes_over_has_a_limit_of_its_own_beside_what_the_old_one_still_has() {
    takes_over(|upstream| limited_to(upstream, LIMIT));
}

#[test]
fn an_envoy_that_takes_over_has_a_backstop_of_its_own_too() {
    takes_over(|upstream| limited_to(upstream, LIMIT).backed(LIMIT));
}

fn takes_over(bootstrap: impl FnOnce(SocketAddr) -> Bootstrap) {
    let port = lasting_port();
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = at_port(bootstrap(upstream.address), port);
    let base = Base::new();
    let patience = ["--drain-time-s", "2", "--parent-shutdown-time-s", "4"];
    let mut old = Envoy::start_by(&bootstrap, 2, |command| {
        command.arg("--use-dynamic-base-id").arg("--base-id-path");
        command.arg(base.file()).args(patience);
    });
    let to = old.listener(TCP.listener);
    let mut before = served(to, LIMIT);
    let id = base.id();
    let next = ["--restart-epoch", "1", "--base-id", &id];
    let new = old.successor(&bootstrap, &[next, patience].concat());
    // What the old one has goes on, and is not known to the new one.
    all_live(&mut before);
    // The old one, which is full, takes some still until it has been told.
    let mut after = Vec::new();
    until(|| {
        after.extend(heard(knocks(to, LIMIT - after.len())).0);
        let count = after.len();
        (count == LIMIT)
            .then_some(())
            .ok_or_else(|| format!("{count} are served"))
    });
    assert_eq!(fate(&mut knock(to, "more")), Fate::Refused);
    new.until_rule(RULE, "tidegate_inflight", LIMIT as f64);
    assert_eq!(upstream.seen().peak, 2 * LIMIT);
    // The old one ends when its time is up, with what it still has.
    assert!(old.wait().success());
    for stream in &mut before {
        rest(stream);
    }
    upstream.until_open(LIMIT);
    all_live(&mut after);
    drop((before, after));
    upstream.peak_since();
    is_whole(&new, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    assert_eq!(new.metrics().rule(RULE, "tidegate_faults_total"), 0.0);
}

#[test]
fn an_overloaded_envoy_that_takes_nobody_serves_those_that_it_has_and_the_others_later() {
    let upstream = Upstream::start(Conduct::Echo);
    let folder = Folder::new();
    let pressure = |value: f64| {
        let new = folder.path().join("new");
        fs::write(&new, value.to_string()).expect("written");
        fs::rename(new, folder.path().join("pressure")).expect("delivered");
    };
    pressure(0.0);
    let manager = format!(
        r#"
overload_manager:
  refresh_interval: 0.05s
  resource_monitors:
  - name: envoy.resource_monitors.injected_resource
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig
      filename: {}/pressure
  actions:
  - name: envoy.overload_actions.stop_accepting_connections
    triggers: [{{name: envoy.resource_monitors.injected_resource, threshold: {{value: 0.9}}}}]

static_resources:"#,
        folder.path().display()
    );
    let bootstrap = limited_to(upstream.address, LIMIT).set("\nstatic_resources:", &manager);
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(TCP.listener);
    let mut open = served(to, LIMIT / 2);
    let active = |value: f64| {
        envoy.until("the overload should be known", |metrics| {
            let name = "envoy_overload_envoy_overload_actions_stop_accepting_connections_active";
            metrics.sum(name, &[]) == value
        });
    };
    pressure(0.95);
    active(1.0);
    // The kernel takes them, and Envoy does not.
    let waiting = knocks(to, LIMIT);
    all_live(&mut open);
    assert_eq!(upstream.seen().total, LIMIT / 2);
    pressure(0.0);
    let (more, refused) = fates(waiting);
    assert_eq!((more.len(), refused), (LIMIT / 2, LIMIT / 2));
    drop((open, more));
    is_whole(&envoy, to, &upstream);
    envoy.until_balanced(RULE, LIMIT / 2 + LIMIT + LIMIT + 5);
    assert_eq!(upstream.seen().peak, LIMIT);
}
