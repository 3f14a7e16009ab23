//! The ways in which a configuration reaches the plugin, and filters that share a budget.

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, HTTP, TCP, Upstream, fate, fates, http, knock, knocks,
};

#[test]
fn a_struct_means_the_same_as_the_text() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .set("google.protobuf.StringValue", "google.protobuf.Struct")
        .set("value: |", "value:");
    let envoy = Envoy::start(&bootstrap, 2);
    let (served, refused) = fates(knocks(envoy.listener(TCP.listener), 150));
    assert_eq!((served.len(), refused), (100, 50));
    let metrics = envoy.until_rule("service", "tidegate_rejected_total", 50.0);
    assert_eq!(metrics.rejected("service", "hold_timeout"), 50.0);
    drop(served);
    envoy.until_balanced("service", 150);
}

#[test]
fn without_a_configuration_everything_passes_and_is_counted() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&TCP.before(upstream.address).configuration(""), 2);
    let (served, refused) = fates(knocks(envoy.listener(TCP.listener), 150));
    assert_eq!((served.len(), refused), (150, 0));
    envoy.until_rule("default", "tidegate_inflight", 150.0);
    drop(served);
    let metrics = envoy.until_balanced("default", 150);
    assert_eq!(
        metrics.rule("default", "tidegate_shadow_rejected_total"),
        0.0
    );
    assert_eq!(metrics.rule("default", "tidegate_inflight_limit"), 0.0);
    assert!(
        envoy
            .log()
            .contains(r#""rules":[{"name":"default","mode":"shadow"}]"#)
    );
}

/// Both shipped bootstraps in one Envoy, with one and the same plugin configuration: Envoy makes
/// one root context of the two filters.
pub fn both(web: &Upstream, plain: &Upstream, inflight: usize) -> Bootstrap {
    let web = HTTP
        .before(web.address)
        .limits(&format!(r#"{{"inflight": {inflight}}}"#))
        .hold_off();
    let plain = TCP.before(plain.address);
    // One level less deep than in the HTTP filter.
    let same: String = web
        .block("configuration:")
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect();
    let plain = plain.configuration(&same);
    let listener = plain.block("  - name: service\n    address:");
    let cluster = plain.block("  - name: service\n    connect_timeout");
    web.set(
        "\n  clusters:\n",
        &format!("{listener}\n  clusters:\n{cluster}"),
    )
}

#[test]
fn http_and_tcp_filters_with_the_same_rule_share_one_budget() {
    let (web, plain) = (
        Upstream::start(Conduct::Http),
        Upstream::start(Conduct::Echo),
    );
    let envoy = Envoy::start(&both(&web, &plain, 3), 2);
    let (api, service) = (envoy.listener(HTTP.listener), envoy.listener(TCP.listener));
    for round in 1..=3 {
        web.seize();
        let first = http::ask(api, "/first");
        web.until_open(1);
        let mut open = [knock(service, "a"), knock(service, "b")];
        assert!(open.iter_mut().all(|stream| fate(stream) == Fate::Served));
        assert_eq!(fate(&mut knock(service, "c")), Fate::Refused);
        assert_eq!(http::get(api, "/second").status, 503);
        envoy.until_rule("api", "tidegate_inflight", 3.0);

        drop(open);
        plain.until_open(0);
        web.release();
        assert_eq!(http::answer(first).status, 200);
        envoy.until_rule("api", "tidegate_inflight", 0.0);
        let (more, refused) = fates(knocks(service, 4));
        assert_eq!((more.len(), refused), (3, 1));
        assert_eq!(http::get(api, "/third").status, 503);
        drop(more);
        envoy.until_quiet("api", round * 11 - 1);
        assert_eq!(http::get(api, "/fourth").status, 200);
        // Its slot is free for all workers when its own has told so.
        envoy.until_quiet("api", round * 11);
    }
    assert_eq!((plain.seen().peak, web.seen().peak), (3, 1));
}
