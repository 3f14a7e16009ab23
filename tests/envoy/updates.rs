//! Configurations that are refused, and those that replace others.

use std::net::SocketAddr;

use crate::harness::{
    Bootstrap, Conduct, Delivered, Envoy, Fate, TCP, Upstream, fate, fates, knock, knocks, until,
};

const RULE: &str = "service";
const REJECTED: &str = "envoy_listener_manager_lds_update_rejected";
const UPDATED: &str = "envoy_listener_manager_lds_update_success";

/// The shipped bootstrap with this limit, and nobody is held.
fn limited_to(upstream: SocketAddr, inflight: u32) -> Bootstrap {
    let limits = format!(r#"{{"inflight": {inflight}}}"#);
    TCP.before(upstream).limits(&limits).hold_off()
}

#[test]
fn a_bad_configuration_stops_envoy_at_the_start_and_says_what_to_write() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let bad = TCP
        .before(nowhere)
        .limits(r#"{"inflight": 0, "arrivals_per_s": "many"}"#)
        .hold(r#"{"max_wait": 100}"#)
        .set("\"name\": \"service\",", "\"name\": \"Service\",");
    let log = Envoy::fails_to_start(&bad);
    for finding in [
        "tidegate: rules[0].limits.inflight: 0 is not a limit; leave it out for none",
        "tidegate: rules[0].name: ",
        "tidegate: rules[0].limits.arrivals_per_s: ",
        "tidegate: rules[0].hold.max_wait: 100 has no unit; write a duration such as",
        "Unable to create Wasm plugin",
    ] {
        assert!(log.contains(finding), "{finding:?} is not in:\n{log}");
    }
}

#[test]
fn a_module_without_inspection_refuses_what_only_the_other_can_do() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let bad = crate::harness::POSTGRES
        .before(nowhere)
        .set("/tidegate-inspect.wasm", "/tidegate.wasm");
    let log = Envoy::fails_to_start(&bad);
    assert!(log.contains("tidegate: rules[0].reject.tcp: "), "{log}");
    assert!(log.contains("tidegate-inspect.wasm"), "{log}");
}

#[test]
fn a_bad_update_is_refused_and_the_old_configuration_goes_on() {
    let upstream = Upstream::start(Conduct::Echo);
    let good = limited_to(upstream.address, 2);
    let delivered = Delivered::first(&good);
    let envoy = Envoy::start(&delivered.bootstrap, 2).complains();
    let service = envoy.listener(TCP.listener);
    let (served, refused) = fates(knocks(service, 3));
    assert_eq!((served.len(), refused), (2, 1));

    delivered.put(&good.clone().limits(r#"{"inflight": "two"}"#));
    envoy.until("the update should be refused", |metrics| {
        metrics.sum(REJECTED, &[]) == 1.0
    });
    let log = envoy.log();
    assert!(
        log.contains("tidegate: rules[0].limits.inflight: "),
        "{log}"
    );

    // The limit that was, and the slots that were taken.
    assert_eq!(envoy.listener(TCP.listener), service);
    assert_eq!(fate(&mut knock(service, "more")), Fate::Refused);
    envoy.until_rule(RULE, "tidegate_inflight", 2.0);
    drop(served);
    envoy.until_rule(RULE, "tidegate_inflight", 0.0);
    let (served, refused) = fates(knocks(service, 3));
    assert_eq!((served.len(), refused), (2, 1));
    assert_eq!(upstream.seen().peak, 2);
    drop(served);
    envoy.until_balanced(RULE, 7);
}

#[test]
fn an_update_under_load_keeps_the_count_of_what_is_open() {
    let upstream = Upstream::start(Conduct::Echo);
    let delivered = Delivered::first(&limited_to(upstream.address, 10));
    let envoy = Envoy::start(&delivered.bootstrap, 2);
    let service = envoy.listener(TCP.listener);
    let (mut old, refused) = fates(knocks(service, 12));
    assert_eq!((old.len(), refused), (10, 2));

    let started = || envoy.log().matches(r#"{"event":"started","#).count();
    assert_eq!(started(), 1);

    // From 10 down to 6: the ten stay, and nobody comes in until five of them have left.
    delivered.put(&limited_to(upstream.address, 6));
    envoy.until_rule(RULE, "tidegate_inflight_limit", 6.0);
    envoy.until("the update should be taken", |metrics| {
        metrics.sum(UPDATED, &[]) == 2.0
    });
    assert_eq!(started(), 2, "{}", envoy.log());
    let mut arrivals = 12;
    for left in (6..=10).rev() {
        assert_eq!(
            fate(&mut knock(service, "more")),
            Fate::Refused,
            "{left} are open"
        );
        arrivals += 1;
        drop(old.pop());
        upstream.until_open(left - 1);
        envoy.until_rule(RULE, "tidegate_inflight", (left - 1) as f64);
    }
    let mut new = until(|| {
        let mut client = knock(service, "new");
        arrivals += 1;
        let served = fate(&mut client) == Fate::Served;
        served.then_some(client).ok_or_else(|| "refused".to_owned())
    });
    assert_eq!(fate(&mut knock(service, "more")), Fate::Refused);
    arrivals += 1;

    // Those from before and those from after the update work side by side.
    for stream in old.iter_mut().chain([&mut new]) {
        std::io::Write::write_all(stream, b"again").expect("sent");
        assert_eq!(fate(stream), Fate::Served);
    }
    assert_eq!(upstream.seen().peak, 10);
    drop((old, new));
    envoy.until_balanced(RULE, arrivals);
    let (served, refused) = fates(knocks(service, 8));
    assert_eq!((served.len(), refused), (6, 2));
    drop(served);
    envoy.until_balanced(RULE, arrivals + 8);
}

#[test]
fn those_that_are_held_across_an_update_are_served_or_refused() {
    let upstream = Upstream::start(Conduct::Echo);
    let hold = r#"{"max_wait": "60s", "max_waiting": 8}"#;
    let first =
        limited_to(upstream.address, 1).set("\"hold\": \"off\"", &format!("\"hold\": {hold}"));
    let delivered = Delivered::first(&first);
    let envoy = Envoy::start(&delivered.bootstrap, 1);
    let service = envoy.listener(TCP.listener);
    let mut open = knock(service, "first");
    assert_eq!(fate(&mut open), Fate::Served);
    let mut held = knock(service, "held");
    envoy.until_rule(RULE, "tidegate_waiting", 1.0);
    delivered.put(&first.clone().limits(r#"{"inflight": 2}"#));
    // The new limit is for those that come with it; the held one waits for the old one still.
    envoy.until_rule(RULE, "tidegate_inflight_limit", 2.0);
    drop(open);
    assert_eq!(fate(&mut held), Fate::Served);
    drop(held);
    envoy.until_balanced(RULE, 2);
}
