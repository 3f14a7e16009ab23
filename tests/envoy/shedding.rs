//! Surges over HTTP: who is shed, and who is served all along.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Bootstrap, Conduct, Envoy, HTTP, Upstream, Visit, Visits, metrics::Metrics};

const RULE: &str = "api";
const CALLER: &str = "x-caller";
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

/// Somebody's requests.
fn visits(envoy: &Envoy, header: &'static str, names: Vec<String>, per_s: f64) -> Visits {
    Visits {
        to: envoy.listener(HTTP.listener),
        header,
        names,
        per_s,
    }
}

/// What is counted as refused for a reason, or would have been.
fn counted(metrics: &Metrics, mode: &str, reason: &str) -> f64 {
    let name = match mode {
        "shadow" => "tidegate_shadow_rejected_total",
        _ => "tidegate_rejected_total",
    };
    metrics.sum(name, &[("rule", RULE), ("reason", reason)])
}

/// Nobody noticed anything.
fn assert_untouched(metrics: &Metrics, visits: &[&[Visit]]) {
    let all: Vec<&Visit> = visits.iter().copied().flatten().collect();
    let touched = all.iter().find(|visit| !visit.served());
    assert!(touched.is_none(), "{touched:?}");
    let count = all.len() as f64;
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), count);
    for counter in ["rejected", "redirected", "held"] {
        let name = format!("tidegate_{counter}_total");
        assert_eq!(metrics.rule(RULE, &name), 0.0, "{}", metrics.told());
    }
}

/// Eight callers, and then a ninth that makes ten times as many requests as they do together. It is
/// cut, or would be; when it has calmed down, it is let in again.
fn one_hot_caller(mode: &str) {
    let upstream = upstream();
    let envoy = Envoy::start(&bootstrap(&upstream, CALLER).mode(mode), 2);
    let steady = visits(&envoy, CALLER, names("steady", 8), NORMAL).start();
    envoy.until("the callers should be known", |metrics| {
        metrics.rule(RULE, "tidegate_arrivals_total") >= 160.0
    });
    let culprit = |per_s| visits(&envoy, CALLER, names("culprit", 1), per_s).start();
    let surge = culprit(SURGE);
    let event = envoy.until_event(RULE, "surge_started");
    event.blames("culprit-0");
    thread::sleep(KNOWN + Duration::from_secs(3));
    surge.stop();
    let after = culprit(NORMAL / 2.0);
    let surge = surge.end();
    let metrics = envoy.metrics();
    let cut = counted(&metrics, mode, "hot_caller");
    let all = surge.len() as f64;
    assert!(cut >= 0.75 * all, "of {all}: {}", metrics.told());
    // By its rate, and not for want of slots alone.
    let held = metrics.rule(RULE, "tidegate_held_total");
    assert!(held <= 0.5 * cut, "{}", metrics.told());

    envoy.until_event(RULE, "surge_ended");
    let since = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let (after, steady) = (after.end(), steady.end());
    let metrics = envoy.until_quiet(RULE, surge.len() + after.len() + steady.len());
    for reason in ["inflight_limit", "adaptive_limit", "surge_pressure"] {
        assert_eq!(counted(&metrics, mode, reason), 0.0, "{}", metrics.told());
    }
    if mode == "shadow" {
        assert_untouched(&metrics, &[&surge, &after, &steady]);
        return;
    }
    let spared = steady.iter().filter(|visit| visit.served()).count();
    assert!(
        spared as f64 >= 0.95 * steady.len() as f64,
        "{spared} of {}; {}",
        steady.len(),
        metrics.told()
    );
    let mut retries = BTreeSet::new();
    for visit in surge.iter().filter(|visit| !visit.served()) {
        assert_eq!(visit.response.status, 503, "{visit:?}");
        assert_eq!(visit.reason(), Some("hot_caller"), "{visit:?}");
        retries.extend(visit.response.header("retry-after"));
    }
    assert_eq!(retries, BTreeSet::from(["2", "3"]), "all come back at once");
    // A part of it is let in before all of it is.
    let first = after.iter().position(Visit::served).expect("it is served");
    let last = after.iter().rposition(|visit| !visit.served());
    let last = last.expect("it is not let in at once");
    assert!(first < last, "{first} {last}");
    assert_eq!(after[last].reason(), Some("hot_caller"));
    let mut late = after.iter().filter(|visit| visit.began > since);
    assert!(late.all(Visit::served), "{}", metrics.told());
    assert!(upstream.seen().peak <= LIMIT);
}

#[test]
fn one_hot_caller_is_cut_the_others_are_served_and_it_is_let_in_again_in_steps() {
    one_hot_caller("enforce");
}

#[test]
fn shadow_counts_the_hot_caller_as_enforce_would_and_touches_nobody() {
    one_hot_caller("shadow");
}

/// Forty users, and then all of them ten times as often. A share of them is served, or would be.
fn everybody(mode: &str) {
    let upstream = upstream();
    let envoy = Envoy::start(&bootstrap(&upstream, USER).mode(mode), 2);
    let users = |per_s| visits(&envoy, USER, names("user", 40), per_s);
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
    surge.stop();
    let after = users(NORMAL).start();
    let mut steps = Vec::new();
    envoy.until("all should be served again", |metrics| {
        let share = metrics.rule(RULE, SHARE);
        steps.push(share);
        share == 100.0
    });
    steps.dedup();
    // It takes less than a second, of which a busy machine sees a few moments.
    assert!(steps.len() >= 3, "{steps:?}");

    let surge = surge.end();
    let metrics = envoy.metrics();
    let shed = counted(&metrics, mode, "surge_pressure") / surge.len() as f64;
    assert!((0.2..=0.8).contains(&shed), "{}", metrics.told());
    let settled = surge.iter().filter(|visit| visit.began > began + KNOWN);
    let told = by_user(settled);
    let all = told.values().filter(|[shed, _]| *shed == 0).count();
    let none = told.values().filter(|[_, spared]| *spared == 0).count();
    // The share swings a little, and so some are served now and then.
    if mode == "enforce" {
        assert!(all >= 3 && none >= 3 && all + none >= 20, "{told:?}");
    }

    envoy.until_event(RULE, "surge_ended");
    let since = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let after = after.end();
    let count = normal.len() + surge.len() + after.len();
    let metrics = envoy.until_quiet(RULE, count);
    assert_eq!(metrics.rule(RULE, SHARE), 100.0);
    if mode == "shadow" {
        assert_untouched(&metrics, &[&normal, &surge, &after]);
        return;
    }
    let mut late = after.iter().filter(|visit| visit.began > since);
    assert!(late.all(Visit::served), "{}", metrics.told());
    assert!(upstream.seen().peak <= LIMIT);
}

#[test]
fn when_it_is_everybody_the_same_users_are_served_all_along_and_then_all_of_them_again() {
    everybody("enforce");
}

#[test]
fn shadow_counts_whom_a_share_leaves_out_and_touches_nobody() {
    everybody("shadow");
}
