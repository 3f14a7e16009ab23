//! Requests and `limits.inflight`, over all workers, and what a refused one reads.

use std::collections::BTreeSet;

use crate::harness::{
    Conduct, Envoy, HTTP, Upstream,
    http::{Response, answer, ask, get},
};

const RULE: &str = "api";
const LIMIT: &str = r#""limits": {"inflight": 100}"#;

/// What every refusal says.
fn assert_refused(response: &Response, reason: &str) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("x-tidegate-reason"), Some(reason));
    assert_eq!(
        response.body,
        "upstream connection limit reached, retry later\n"
    );
    let retry = response.header("retry-after");
    assert!(matches!(retry, Some("2" | "3")), "{retry:?}");
}

/// All come at once, while the upstream answers nobody.
fn three_hundred_against_one_hundred(workers: u32) {
    let upstream = Upstream::start(Conduct::Http);
    let envoy = Envoy::start(&HTTP.before(upstream.address), workers);
    let api = envoy.listener(HTTP.listener);

    let requests: Vec<_> = (0..300).map(|_| ask(api, "/")).collect();
    envoy.until_rule(RULE, "tidegate_rejected_total", 200.0);
    upstream.until_open(100);
    upstream.release();
    let responses: Vec<_> = requests.into_iter().map(answer).collect();

    let (served, refused): (Vec<_>, Vec<_>) = responses
        .into_iter()
        .partition(|response| response.status == 200);
    assert_eq!((served.len(), refused.len()), (100, 200));
    assert!(served.iter().all(|response| response.body == "hello"));
    for response in &refused {
        assert_refused(response, "hold_timeout");
    }
    let retries: BTreeSet<_> = refused
        .iter()
        .map(|response| response.header("retry-after"))
        .collect();
    assert_eq!(retries.len(), 2, "all come back at once: {retries:?}");

    let metrics = envoy.until_quiet(RULE, 300);
    let seen = upstream.seen();
    assert_eq!((seen.peak, seen.total), (100, 100));
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 100.0);
    assert_eq!(metrics.rejected(RULE, "hold_timeout"), 200.0);
}

#[test]
fn two_workers_admit_one_hundred_of_three_hundred_requests_together() {
    three_hundred_against_one_hundred(2);
}

#[test]
fn four_workers_admit_one_hundred_of_three_hundred_requests_together() {
    three_hundred_against_one_hundred(4);
}

#[test]
fn a_held_request_is_answered_when_a_slot_gets_free() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold(r#"{"max_wait": "60s", "max_waiting": 8}"#);
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    let first = ask(api, "/first");
    upstream.until_open(1);
    let second = ask(api, "/second");
    envoy.until_rule(RULE, "tidegate_waiting", 1.0);
    upstream.release();
    assert_eq!(answer(first).status, 200);
    assert_eq!(answer(second).status, 200);
    let metrics = envoy.until_quiet(RULE, 2);
    assert_eq!(metrics.rule(RULE, "tidegate_held_total"), 1.0);
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 2.0);
    assert_eq!(upstream.seen().peak, 1);
    assert_eq!(upstream.seen().said, ["/first", "/second"]);
}

#[test]
fn without_hold_a_request_over_the_limit_is_refused_at_once() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .set(LIMIT, r#""limits": {"inflight": 1}"#)
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 2);
    let api = envoy.listener(HTTP.listener);
    let first = ask(api, "/first");
    upstream.until_open(1);
    assert_refused(&get(api, "/second"), "inflight_limit");
    upstream.release();
    assert_eq!(answer(first).status, 200);
    let metrics = envoy.until_quiet(RULE, 2);
    assert_eq!(metrics.rejected(RULE, "inflight_limit"), 1.0);
    assert_eq!(metrics.rule(RULE, "tidegate_held_total"), 0.0);
}

#[test]
fn when_the_hold_is_full_the_oldest_makes_room_or_the_newest_is_refused() {
    for (order, refused) in [("newest_first", 0), ("oldest_first", 1)] {
        let upstream = Upstream::start(Conduct::Http);
        let hold = format!(r#"{{"max_wait": "60s", "max_waiting": 1, "order": "{order}"}}"#);
        let bootstrap = HTTP
            .before(upstream.address)
            .limits(r#"{"inflight": 1}"#)
            .hold(&hold);
        let envoy = Envoy::start(&bootstrap, 1);
        let api = envoy.listener(HTTP.listener);
        let first = ask(api, "/first");
        upstream.until_open(1);
        let older = ask(api, "/older");
        envoy.until_rule(RULE, "tidegate_waiting", 1.0);
        let mut held = vec![older, ask(api, "/newer")];
        assert_refused(&answer(held.remove(refused)), "hold_full");
        upstream.release();
        assert_eq!(answer(first).status, 200);
        assert_eq!(answer(held.remove(0)).status, 200);
        let metrics = envoy.until_quiet(RULE, 3);
        assert_eq!(metrics.rejected(RULE, "hold_full"), 1.0, "{order}");
    }
}

#[test]
fn a_refusal_has_the_status_the_body_and_the_time_that_are_configured() {
    let upstream = Upstream::start(Conduct::Http);
    let reject = r#"{"http_status": 429, "retry_after": "60s", "body": "later\n"}"#;
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off()
        .set(r#"{"http_status": 503, "retry_after": "2s"}"#, reject);
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    let first = ask(api, "/first");
    upstream.until_open(1);
    let refusal = get(api, "/second");
    assert_eq!((refusal.status, refusal.body.as_str()), (429, "later\n"));
    let retry = refusal.header("retry-after").expect("a time");
    let seconds: u32 = retry.parse().expect("a number");
    assert!((60..=91).contains(&seconds), "{seconds}");
    upstream.release();
    assert_eq!(answer(first).status, 200);
}

/// Everything that a rule can ask about a request.
const MATCH: &str = r#"{"path_prefix": "/v1/", "method": ["GET"], "cluster": "api", "authority": "api.example", "source": ["127.0.0.0/8"]}"#;

#[test]
fn a_request_that_no_rule_matches_passes_uncounted() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .set(
            LIMIT,
            &format!(r#""match": {MATCH}, "limits": {{"inflight": 1}}"#),
        )
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    let first = ask(api, "/v1/first");
    upstream.until_open(1);
    assert_refused(&get(api, "/v1/second"), "inflight_limit");
    let other = ask(api, "/v2/");
    upstream.until_open(2);
    upstream.release();
    assert_eq!((answer(first).status, answer(other).status), (200, 200));
    let metrics = envoy.until_quiet(RULE, 2);
    assert_eq!(metrics.rule(RULE, "tidegate_arrivals_total"), 2.0);
}

/// A slot is free for the other workers with its worker's next call, so each may keep one a little
/// longer than its request lasts: what is promised begins with as many slots as workers.
#[test]
fn with_a_slot_for_each_worker_requests_one_after_the_other_all_pass() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 4}"#)
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 4);
    let api = envoy.listener(HTTP.listener);
    for number in 0..500 {
        assert_eq!(get(api, "/").status, 200, "the request {number}");
    }
    let metrics = envoy.until_quiet(RULE, 500);
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 500.0);
    assert_eq!(upstream.seen().peak, 1);
}
