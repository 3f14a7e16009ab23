//! Surges over HTTP: who is shed, and who is served all along.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Bootstrap, Conduct, Envoy, HTTP, Upstream, Visit, Visits};

const RULE: &str = "api";
const USER: &str = "x-user";
const SHARE: &str = "tidegate_admitted_share_percent";

/// What is open at once at most, and how long a request takes: 200 a second is all there is.
const LIMIT: usize = 10;
const TAKES: Duration = Duration::from_millis(50);
/// What is normal, and what comes in a surge, a second.
const NORMAL: f64 = 40.0;
const SURGE: f64 = 400.0;
/// After so long a surge is known to all workers, and shed for.
const KNOWN: Duration = Duration::from_secs(3);

fn upstream() -> Upstream {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    upstream.take(TAKES);
    upstream
}

/// Callers and users are told apart by this header.
fn bootstrap(upstream: &Upstream, header: &str) -> Bootstrap {
    HTTP.before(upstream.address)
        .limits(&format!(r#"{{"inflight": {LIMIT}}}"#))
        .with(&format!(
            r#""key": "header:{header}", "sticky": "header:{header}""#
        ))
        .with(&format!(r#""surge": {{"baseline_per_s": {NORMAL}}}"#))
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{kind}-{number}"))
        .collect()
}

/// How many of each user's requests were shed for the surge, and how many were not.
fn by_user<'a>(visits: impl IntoIterator<Item = &'a Visit>) -> BTreeMap<&'a str, [usize; 2]> {
    let mut users = BTreeMap::<_, [usize; 2]>::new();
    for visit in visits {
        let shed = visit.reason() == Some("surge_pressure");
        users.entry(visit.name.as_str()).or_default()[usize::from(!shed)] += 1;
    }
    users
}

#[test]
fn when_it_is_everybody_the_same_users_are_served_all_along_and_then_all_of_them_again() {
    let upstream = upstream();
    let envoy = Envoy::start(&bootstrap(&upstream, USER), 2);
    let users = |per_s| Visits {
        to: envoy.listener(HTTP.listener),
        header: USER,
        names: names("user", 40),
        per_s,
    };
    let normal = users(NORMAL).start();
    envoy.until("the users should be known", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 160.0
    });
    let normal = normal.end();
    assert!(normal.iter().all(Visit::served));
    assert_eq!(envoy.metrics().rule(RULE, SHARE), 100.0);

    let surge = users(SURGE).start();
    let began = Instant::now();
    let event = envoy.until_event(RULE, "surge_started");
    assert_eq!(event.text("spread"), "everybody", "{}", event.json);
    envoy.until("a share should be served", |metrics| {
        metrics.rule(RULE, SHARE) < 100.0
    });
    thread::sleep((began + KNOWN + Duration::from_secs(5)).duration_since(Instant::now()));
    let surge = surge.end();
    let settled = surge.iter().filter(|visit| visit.began > began + KNOWN);
    let told = by_user(settled);
    let all = told.values().filter(|[shed, _]| *shed == 0).count();
    let none = told.values().filter(|[_, spared]| *spared == 0).count();
    // The share swings a little, and so some are served now and then.
    assert!(all >= 3 && none >= 3 && all + none >= 20, "{told:?}");

    let after = users(NORMAL).start();
    let mut steps = Vec::new();
    envoy.until("all should be served again", |metrics| {
        let share = metrics.rule(RULE, SHARE);
        steps.push(share);
        share == 100.0
    });
    steps.dedup();
    assert!(steps.len() >= 5, "{steps:?}");
    envoy.until_event(RULE, "surge_ended");
    let since = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let after = after.end();
    assert!(
        after
            .iter()
            .filter(|visit| visit.began > since)
            .all(Visit::served)
    );
    let visits = normal.len() + surge.len() + after.len();
    let metrics = envoy.until_quiet(RULE, visits);
    assert_eq!(metrics.rule(RULE, SHARE), 100.0);
    assert!(upstream.seen().peak <= LIMIT);
}
