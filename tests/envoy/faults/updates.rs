//! Configurations, listeners and clusters that are replaced while much comes.

use std::{fs, net::SocketAddr, thread, time::Duration};

use super::{
    CALM, LIMIT, RULE, TICKS, all_live, is_whole, limited_to, served, until_empty, until_served,
};
use crate::harness::{
    Bootstrap, Conduct, Delivered, Envoy, Fate, Storm, TCP, Upstream, block_on, fate, fates, knock,
    knocks, places::Folder,
};

const UPDATED: &str = "envoy_listener_manager_lds_update_success";
const REFUSED: &str = "envoy_listener_manager_lds_update_rejected";

const STORM: Storm = Storm {
    clients: 150,
    stays: Duration::from_millis(100),
    away: Duration::from_millis(20),
    lasts: Duration::from_secs(8),
};

fn until_counted(envoy: &Envoy, counter: &str, value: f64) {
    envoy.until(&format!("{counter} should be {value}"), |metrics| {
        metrics.sum(counter, &[]) == value
    });
}

#[test]
fn whoever_is_held_when_the_limit_is_lowered_waits_for_a_place_of_the_new_one() {
    let upstream = Upstream::start(Conduct::Echo);
    let with = |limit: usize| {
        let limits = format!(r#"{{"inflight": {limit}}}"#);
        let bootstrap = TCP.before(upstream.address).limits(&limits).with(CALM);
        bootstrap.hold(r#"{"max_wait": "60s", "max_waiting": 8}"#)
    };
    let delivered = Delivered::first(&with(3));
    let envoy = Envoy::start(&delivered.bootstrap, 1);
    let to = envoy.listener(TCP.listener);
    let mut open = served(to, 3);
    let mut held = knock(to, "held");
    envoy.until_rule(RULE, "tidegate_waiting", 1.0);
    delivered.put(&with(1));
    envoy.until_rule(RULE, "tidegate_inflight_limit", 1.0);
    for left in [2, 1] {
        open.pop();
        upstream.until_open(left);
        // Some ticks in which it might be let in.
        thread::sleep(TICKS);
        assert_eq!(upstream.seen().open, left);
    }
    open.pop();
    assert_eq!(fate(&mut held), Fate::Served);
    upstream.until_open(1);
}

#[test]
fn limits_that_are_raised_and_lowered_in_a_surge_hold_and_a_bad_one_leaves_the_old() {
    // A storm is a surge here.
    let with = |upstream: &Upstream, limits: &str| {
        let bootstrap = TCP.before(upstream.address).limits(limits).hold_off();
        bootstrap.with(r#""surge": {"baseline_per_s": 5}"#)
    };
    let upstream = Upstream::start(Conduct::Echo);
    let first = with(&upstream, r#"{"inflight": 10}"#);
    let delivered = Delivered::first(&first);
    let envoy = Envoy::start(&delivered.bootstrap, 4).complains();
    let to = envoy.listener(TCP.listener);
    let mut stay = served(to, 2);
    let storm = thread::scope(|scope| {
        let storm = scope.spawn(|| block_on(STORM.rage(to, &upstream, LIMIT)));
        envoy.until("it should be a surge", |metrics| {
            metrics.rule(RULE, "tidegate_phase") == 3.0
        });
        assert!(upstream.peak_since() <= 10);
        for (updates, limit) in [(2.0, 20), (3.0, 5)] {
            delivered.put(&with(&upstream, &format!(r#"{{"inflight": {limit}}}"#)));
            until_counted(&envoy, UPDATED, updates);
            envoy.until_rule(RULE, "tidegate_inflight_limit", f64::from(limit));
            // Who is open stays; the rest is by the new limit.
            thread::sleep(STORM.stays * 5);
            upstream.peak_since();
            thread::sleep(STORM.stays * 5);
            let peak = upstream.peak_since();
            assert!(peak <= limit as usize, "{peak} of {limit}");
        }
        for bad in [r#"{"inflight": 0}"#, r#"{"inflight": 99, "unheard_of": 1}"#] {
            let before = envoy.metrics().sum(REFUSED, &[]);
            delivered.put(&with(&upstream, bad));
            until_counted(&envoy, REFUSED, before + 1.0);
        }
        thread::sleep(STORM.stays * 5);
        let peak = upstream.peak_since();
        assert!(peak <= 5, "{peak}");
        assert_eq!(envoy.metrics().rule(RULE, "tidegate_phase"), 3.0);
        storm.join().expect("no panic")
    });
    assert!(storm.served > 0, "{storm:?}");
    all_live(&mut stay);
    drop(stay);
    let metrics = envoy.until_balanced(RULE, storm.attempts + 2);
    assert_eq!(metrics.rule(RULE, "tidegate_inflight_limit"), 5.0);
    envoy.until_event(RULE, "surge_started");
}

#[test]
fn listeners_that_are_replaced_in_a_storm_share_one_budget() {
    let upstream = Upstream::start(Conduct::Echo);
    let listener = |number: usize| {
        let bootstrap = limited_to(upstream.address, LIMIT);
        // Not of a filter chain: the whole listener is another.
        let buffer = format!(
            "    per_connection_buffer_limit_bytes: {}\n",
            65_536 + number
        );
        bootstrap.set(
            "    filter_chains:\n",
            &format!("{buffer}    filter_chains:\n"),
        )
    };
    let delivered = Delivered::first(&listener(0));
    let envoy = Envoy::start(&delivered.bootstrap, 4);
    let to = envoy.listener(TCP.listener);
    let mut stay = served(to, 2);
    let storm = Storm {
        lasts: Duration::from_secs(4),
        ..STORM
    };
    let storm = thread::scope(|scope| {
        let storm = scope.spawn(|| block_on(storm.rage(to, &upstream, LIMIT)));
        for number in 1..=5 {
            thread::sleep(Duration::from_millis(500));
            delivered.put(&listener(number));
            until_counted(&envoy, UPDATED, (number + 1) as f64);
        }
        storm.join().expect("no panic")
    });
    assert!(storm.served > LIMIT, "{storm:?}");
    all_live(&mut stay);
    drop(stay);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
    let metrics = envoy.metrics();
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
}

/// The clusters of a bootstrap, delivered from a folder of their own.
struct Clusters {
    folder: Folder,
}

impl Clusters {
    /// Delivers those of the bootstrap; what is left of it.
    fn of(bootstrap: Bootstrap) -> (Self, Bootstrap) {
        let clusters = Self {
            folder: Folder::new(),
        };
        clusters.put(Some(&bootstrap));
        let folder = clusters.folder.path().display();
        let from_folder = format!(
            "node: {{id: test, cluster: test}}\ndynamic_resources:\n  cds_config:\n    \
             path_config_source:\n      path: {folder}/cds.yaml\n      watched_directory: {{path: \
             {folder}}}\nstatic_resources:"
        );
        let all = bootstrap.block("  clusters:");
        let bootstrap = bootstrap
            .set(&all, "")
            .set("static_resources:", &from_folder);
        (clusters, bootstrap)
    }

    /// Delivers those of another bootstrap, or none.
    fn put(&self, other: Option<&Bootstrap>) {
        const TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let text = match other {
            Some(other) => {
                let all = other.block("  clusters:");
                let (_, clusters) = all.split_once("clusters:\n").expect("a cluster");
                let typed = format!("  - \"@type\": {TYPE}\n    name:");
                format!("resources:\n{}", clusters.replacen("  - name:", &typed, 1))
            }
            None => "resources: []\n".to_owned(),
        };
        let new = self.folder.path().join("new.yaml");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.folder.path().join("cds.yaml")).expect("delivered");
    }
}

/// So many, none of which finds its upstream; all that come are let through.
fn nobody_is_there(to: SocketAddr) {
    let (none, all) = fates(knocks(to, LIMIT / 2));
    assert_eq!((none.len(), all), (0, LIMIT / 2));
}

#[test]
fn a_cluster_that_is_emptied_removed_and_replaced_under_load_costs_no_slot() {
    let (old, new) = (
        Upstream::start(Conduct::Echo),
        Upstream::start(Conduct::Echo),
    );
    let full = limited_to(old.address, LIMIT);
    let endpoint = full.block("      - lb_endpoints:");
    let empty = full.clone().set(&endpoint, "      []\n");
    let (clusters, bootstrap) = Clusters::of(full.clone());
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(TCP.listener);
    let half = LIMIT / 2;
    let mut before = served(to, half);
    clusters.put(Some(&empty));
    until_counted(&envoy, "envoy_cluster_manager_cluster_modified", 1.0);
    nobody_is_there(to);
    clusters.put(None);
    until_counted(&envoy, "envoy_cluster_manager_cluster_removed", 1.0);
    nobody_is_there(to);
    clusters.put(Some(&limited_to(new.address, LIMIT)));
    drop(until_served(to));
    assert_eq!(old.seen().open, half);
    envoy.until_rule(RULE, "tidegate_inflight", half as f64);
    all_live(&mut before);
    drop(before);
    until_empty(&envoy);
    is_whole(&envoy, to, &new);
    assert_eq!(new.seen().peak, LIMIT);
    let metrics = envoy.metrics();
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
}
