use alloc::{string::ToString, vec::Vec};
use core::{num::NonZeroU32, time::Duration};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

#[test]
fn a_zero_limit_is_refused_with_what_to_write() {
    for zero in ["0", "0.0", "-0.0"] {
        assert_eq!(
            refused(&rule(&format!(r#""limits": {{"inflight": {zero}}}"#))),
            "rules[0].limits.inflight: 0 is not a limit; leave it out for none"
        );
    }
}

#[test]
fn a_whole_number_may_come_as_a_double() {
    let limits = only_rule(r#""limits": {"inflight": 100.0, "connecting": 1e6}"#).limits;
    assert_eq!(limits.inflight, NonZeroU32::new(100));
    assert_eq!(limits.connecting, NonZeroU32::new(1_000_000));
}

#[test]
fn any_other_number_is_refused_with_the_range() {
    for number in ["100.5", "-5", "1000001", "1e300", "4294967297", "0.999"] {
        let what = refused(&rule(&format!(r#""limits": {{"inflight": {number}}}"#)));
        assert!(
            what.ends_with("; write a whole number from 1 to 1000000"),
            "{what}"
        );
        assert!(what.len() < 200, "{what}");
    }
    for number in [f64::NAN, f64::INFINITY] {
        let limits = Vec::from([("inflight".to_string(), Value::Number(number))]);
        let rule = Vec::from([
            ("name".to_string(), Value::Text("a".to_string())),
            ("limits".to_string(), Value::Object(limits)),
        ]);
        let rules = Value::List(Vec::from([Value::Object(rule)]));
        let bytes = encode(&Value::Object(Vec::from([("rules".to_string(), rules)])));
        let error = parse(&bytes, PLAIN).unwrap_err();
        assert_eq!(error.findings()[0].path, "rules[0].limits.inflight");
    }
}

#[test]
fn ranges_are_inclusive_and_named() {
    only_rule(r#""hold": {"max_wait": "1ms", "max_waiting": 1}"#);
    only_rule(r#""hold": {"max_wait": "1m", "max_waiting": 65536}"#);
    only_rule(r#""reject": {"http_status": 400, "retry_after": "0s", "body": ""}"#);
    only_rule(r#""reject": {"http_status": 599, "retry_after": "1h"}"#);
    all_refused([
        (
            r#""hold": {"max_wait": "999us", "max_waiting": 65537}"#,
            "rules[0].hold.max_wait: found 999us; write a duration from 1ms to 1m\n\
             rules[0].hold.max_waiting: found 65537; write a whole number from 1 to 65536",
        ),
        (
            r#""hold": {"max_waiting": 0}"#,
            "rules[0].hold.max_waiting: 0 means nobody waits; write \"hold\": false for that",
        ),
        (
            r#""reject": {"http_status": 200, "retry_after": "2h"}"#,
            "rules[0].reject.http_status: found 200; write a whole number from 400 to 599\n\
             rules[0].reject.retry_after: found 2h; write a duration from 0s to 1h",
        ),
        (
            r#""reject": {"retry_after": "1.5ms"}"#,
            "rules[0].reject.retry_after: finer than a millisecond; write whole milliseconds",
        ),
        (
            r#""match": {"listener_port": 65536}"#,
            "rules[0].match.listener_port: found 65536; write a whole number from 1 to 65535",
        ),
    ]);
}

#[test]
fn text_is_bounded() {
    only_rule(&format!(r#""reject": {{"body": "{}"}}"#, "x".repeat(4096)));
    let long = format!(
        r#""match": {{"cluster": "", "authority": "{}", "path_prefix": "v1"}},
           "reject": {{"body": "{}", "cluster": "a\nb"}}"#,
        "x".repeat(256),
        "x".repeat(4097)
    );
    assert_eq!(
        refused(&rule(&long)),
        "rules[0].match.cluster: it is empty; write something, or leave it out\n\
         rules[0].match.authority: found 256 bytes; write at most 255\n\
         rules[0].match.path_prefix: found \"v1\"; write the start of a path, such as \"/v1/\"\n\
         rules[0].reject.body: found 4097 bytes; write at most 4096\n\
         rules[0].reject.cluster: found \"a\\nb\"; write text without control characters"
    );
}

#[test]
fn an_unknown_field_is_refused_with_the_one_that_was_meant() {
    all_refused([
        (
            r#""limits": {"inflght": 100}"#,
            "rules[0].limits: unknown field `inflght`; did you mean `inflight`?",
        ),
        (
            r#""hold": {"max_wiat": "1s"}"#,
            "rules[0].hold: unknown field `max_wiat`; did you mean `max_wait`?",
        ),
        (
            r#""match": {"methods": ["GET"]}"#,
            "rules[0].match: unknown field `methods`; did you mean `method`?",
        ),
        (
            r#""limit": {"inflight": 1}"#,
            "rules[0]: unknown field `limit`; did you mean `limits`?",
        ),
    ]);
    assert_eq!(
        refused(r#"{"qps": 1}"#),
        "(configuration): unknown field `qps`; write one of `mode`, `rules`, `status`"
    );
}

#[test]
fn one_mistake_does_not_hide_the_others() {
    let text = r#"{"mode": "on", "rules": [
        {"name": "a", "mode": true, "limits": {"inflght": 1}, "hold": 5},
        {"name": "A", "limits": {"inflight": 0, "connecting": "20"}, "protocol": "pg"},
        7,
        null]}"#;
    assert_eq!(
        refused(text),
        "mode: found \"on\"; write off, shadow or enforce\n\
         rules[0].mode: found true; write off, shadow or enforce\n\
         rules[0].limits: unknown field `inflght`; did you mean `inflight`?\n\
         rules[0].hold: found 5; write off, or an object such as {\"max_wait\": \"100ms\"}\n\
         rules[1].name: found \"A\"; write at most 63 of a-z, 0-9, \"_\" and \"-\", with a letter or digit first\n\
         rules[1].protocol: found \"pg\"; write tcp, postgres or mysql\n\
         rules[1].limits.inflight: 0 is not a limit; leave it out for none\n\
         rules[1].limits.connecting: found \"20\"; write a number without quotes\n\
         rules[2]: found 7; write a rule such as {\"name\": \"orders-db\", \"limits\": {\"inflight\": 100}}\n\
         rules[3]: found null; remove it"
    );
}

#[test]
fn off_may_come_as_false() {
    let modes = r#"{"mode": "off", "rules": [{"name": "a"}]}"#;
    assert_eq!(accepted(modes).rules()[0].mode, Mode::Off);
    assert_eq!(accepted(r#"{"mode": false}"#).rules()[0].mode, Mode::Off);
    assert_eq!(only_rule(r#""hold": "off""#).hold, None);
    assert_eq!(only_rule(r#""hold": false"#).hold, None);
    assert_eq!(
        refused(r#"{"mode": true}"#),
        "mode: found true; write off, shadow or enforce"
    );
}

#[test]
fn a_hold_that_is_not_given_is_short_and_serves_the_newest() {
    let hold = Hold {
        max_wait: Duration::from_millis(100),
        max_waiting: NonZeroU32::new(1024).unwrap(),
        order: Order::NewestFirst,
    };
    for fields in [r#""mode": "shadow""#, r#""hold": {}"#, r#""hold": null"#] {
        assert_eq!(only_rule(fields).hold, Some(hold));
    }
}

#[test]
fn names_are_required_and_unique() {
    assert_eq!(
        refused(
            r#"{"rules": [{"name": "a", "match": {"listener_port": 1}}, {"match": {"listener_port": 2}}, {"name": "a"}]}"#
        ),
        "rules[1].name: it is missing; write a name such as \"orders-db\"\n\
         rules[2].name: \"a\" is the name of rules[0] already; write another"
    );
}

#[test]
fn lists_are_neither_empty_nor_endless() {
    assert_eq!(
        refused(r#"{"rules": []}"#),
        "rules: no rule is given; write one, or leave it out for one rule that counts everything"
    );
    let rules = (0..65).map(|n| format!(r#"{{"name": "r{n}", "match": {{"listener_port": 1}}}}"#));
    let rules = rules.collect::<Vec<_>>();
    accepted(&format!(r#"{{"rules": [{}]}}"#, rules[1..].join(",")));
    assert_eq!(
        refused(&format!(r#"{{"rules": [{}]}}"#, rules.join(","))),
        "rules: found 65 elements; write at most 64"
    );
    let what = refused(&format!(r#"{{"rules": [{}0]}}"#, "0,".repeat(30_000)));
    assert!(what.starts_with("rules: found 30001 elements; write at most 64\nrules[0]: found 0;"));
    all_refused([
        (
            r#""match": {"method": [], "source": []}"#,
            "rules[0].match.method: an empty list matches nothing; leave it out to match everything\n\
             rules[0].match.source: an empty list matches nothing; leave it out to match everything",
        ),
        (
            r#""match": {"method": "GET", "source": ["10.1.0.0/8", null]}"#,
            "rules[0].match.method: found \"GET\"; write a list, in brackets\n\
             rules[0].match.source[0]: found \"10.1.0.0/8\", whose address has bits behind the prefix; \
             write \"10.0.0.0/8\" for the range or \"10.1.0.0\" for the address\n\
             rules[0].match.source[1]: found null; remove it",
        ),
        (
            r#""match": {"method": ["get", "POST"]}"#,
            "rules[0].match.method[0]: found \"get\"; write a method in capitals, such as \"POST\"",
        ),
    ]);
}

#[test]
fn a_list_is_not_taken_for_the_fields_of_an_object() {
    all_refused([
        (
            r#""limits": [100]"#,
            "rules[0].limits: found a list; write an object such as {\"inflight\": 100}",
        ),
        (
            r#""hold": ["1s"]"#,
            "rules[0].hold: found a list; write off, or leave it out",
        ),
    ]);
}

#[test]
fn what_is_of_http_alone_contradicts_what_is_of_tcp() {
    all_refused([
        (
            r#""match": {"cluster": "c", "method": ["GET"]}, "protocol": "mysql""#,
            "rules[0].match.cluster: known of HTTP requests only, and `protocol: mysql` is of TCP connections; remove one of the two\n\
             rules[0].match.method: known of HTTP requests only, and `protocol: mysql` is of TCP connections; remove one of the two",
        ),
        (
            r#""match": {"path_prefix": "/"}, "limits": {"connecting": 1}"#,
            "rules[0].limits.connecting: it counts TCP connections, and `match.path_prefix` is known of HTTP requests only; remove one of the two",
        ),
    ]);
}

#[test]
fn a_refusal_in_the_protocol_needs_one_and_a_module_that_reads_it() {
    let tcp = rule(r#""reject": {"tcp": "protocol"}"#);
    assert_eq!(
        refused_in(INSPECTS, &tcp),
        "rules[0].reject.tcp: `tcp: protocol` answers in the protocol of a database; write `protocol: postgres` or `protocol: mysql` in the rule, or `tcp: close` here"
    );
    let postgres = rule(r#""protocol": "postgres", "reject": {"tcp": "protocol"}"#);
    assert_eq!(
        refused(&postgres),
        "rules[0].reject.tcp: this module does not read database protocols; load tidegate-inspect.wasm or write `tcp: close`"
    );
    let policy = parse(postgres.as_bytes(), INSPECTS).unwrap();
    let cluster = "tidegate-refuse".to_string();
    assert_eq!(
        policy.rules()[0].reject.tcp,
        TcpReject::Protocol { cluster }
    );
    only_rule(r#""protocol": "postgres", "reject": {"tcp": "close"}"#);
}

#[test]
fn a_rule_that_is_never_reached_is_refused() {
    assert_eq!(
        refused(r#"{"rules": [{"name": "a", "match": {}}, {"name": "b"}, {"name": "c"}]}"#),
        "rules[1]: never reached, because rules[0] matches everything; make that one the last, or give it a match\n\
         rules[2]: never reached, because rules[1] matches everything; make that one the last, or give it a match"
    );
}

#[test]
fn what_is_malformed_is_refused_with_what_to_write() {
    let key = "rules[0].key: found \"ip\"; write none, source_ip, peer, sni, authority, \
        header:NAME, postgres.user, postgres.database or postgres.application_name";
    all_refused([
        (r#""key": "ip""#, key),
        (
            r#""sticky": "cookie:""#,
            "rules[0].sticky: found \"cookie:\"; write source_ip, header:NAME, cookie:NAME or key",
        ),
        (
            r#""classes": [{"name": "b", "priority": 256, "reserved": -1, "match": {"source": []}}]"#,
            "rules[0].classes[0].match.source: an empty list matches nothing; \
             leave it out to match everything\n\
             rules[0].classes[0].priority: found 256; write a whole number from 0 to 255\n\
             rules[0].classes[0].reserved: found -1; write a whole number from 0 to 1000000",
        ),
        (
            r#""surge": {"sensitivity": 0, "warm_up": 60}"#,
            "rules[0].surge.sensitivity: found 0; write a number from 1.05 to 1000\n\
             rules[0].surge.warm_up: 60 has no unit; write a duration such as \"500ms\" or \"2s\"",
        ),
        (
            r#""redirect": {}"#,
            "rules[0].redirect: neither a cluster nor a header is given; write one, or remove it",
        ),
        (
            r#""redirect": {"header": {}, "cluster": ""}"#,
            "rules[0].redirect.cluster: it is empty; write something, or leave it out\n\
             rules[0].redirect.header.name: it is missing; write the name of a header, or :authority\n\
             rules[0].redirect.header.value: it is missing; write the value of the header",
        ),
        (
            r#""redirect": {"header": {"name": ":path", "value": "/"}}"#,
            "rules[0].redirect.header.name: found \":path\"; write the name of a header, or :authority",
        ),
        (
            r#""redirect": {"clusters": "b"}"#,
            "rules[0].redirect: unknown field `clusters`; did you mean `cluster`?",
        ),
        (
            r#""adaptive": "yes""#,
            "rules[0].adaptive: found \"yes\"; write true or false",
        ),
        (
            r#""reject": {"slow": true, "max_slow": 1.5}"#,
            "rules[0].reject.slow: found true; write a duration such as \"500ms\" or \"2s\"\n\
             rules[0].reject.max_slow: found 1.5; write a whole number from 1 to 65536",
        ),
        (
            r#""reject": {"slow": "99ms", "max_slow": 0}"#,
            "rules[0].reject.slow: found 99ms; write a duration from 100ms to 1m\n\
             rules[0].reject.max_slow: 0 means that none is kept; write \"slow\": false for that",
        ),
    ]);
}

#[test]
fn a_class_has_a_name_of_its_own_and_can_be_reached() {
    all_refused([
        (
            r#""classes": [{"name": "a", "match": {}}, {"name": "b"}, {"name": "c"}]"#,
            "rules[0].classes[1]: never reached, because rules[0].classes[0] matches everything; make that one the last, or give it a match\n\
             rules[0].classes[2]: never reached, because rules[0].classes[1] matches everything; make that one the last, or give it a match",
        ),
        (
            r#""classes": [{"name": "a", "match": {"source": ["::1"]}}, {"match": {"source": ["::2"]}}, {"name": "a"}, null]"#,
            "rules[0].classes[1].name: it is missing; write a name such as \"orders-db\"\n\
             rules[0].classes[2].name: \"a\" is the name of rules[0].classes[0] already; write another\n\
             rules[0].classes[3]: found null; remove it",
        ),
    ]);
    let classes = (0..9).map(|n| format!(r#"{{"name": "c{n}", "match": {{"source": ["::1"]}}}}"#));
    let classes = classes.collect::<Vec<_>>();
    let eight = only_rule(&format!(r#""classes": [{}]"#, classes[1..].join(",")));
    assert_eq!(eight.classes.len(), 8);
    assert_eq!(
        refused(&rule(&format!(r#""classes": [{}]"#, classes.join(",")))),
        "rules[0].classes: found 9 elements; write at most 8"
    );
}

#[test]
fn what_only_a_request_has_is_not_asked_of_a_connection() {
    let fields = r#""protocol": "mysql", "sticky": "cookie:id",
        "classes": [{"name": "a", "match": {"header": {"name": "x", "value": "y"}}}],
        "redirect": {"header": {"name": "x", "value": "y"}}"#;
    let known = "known of HTTP requests only, and `protocol: mysql` is of TCP connections; \
        remove one of the two";
    let paths = ["sticky", "classes[0].match.header", "redirect.header"];
    let all = paths.map(|path| format!("rules[0].{path}: {known}"));
    assert_eq!(refused(&rule(fields)), all.join("\n"));
    let sticky = refused(&rule(
        r#""protocol": "postgres", "sticky": "header:x-user""#,
    ));
    assert!(sticky.starts_with("rules[0].sticky: known of HTTP requests only"));
}

#[test]
fn a_redirect_leads_somewhere_else_and_whom_it_can_lead() {
    all_refused([
        (
            r#""match": {"path_prefix": "/"}, "redirect": {"cluster": "b"}"#,
            "rules[0].redirect.cluster: it is for TCP connections, and `match.path_prefix` is known of HTTP requests only; remove one of the two",
        ),
        (
            r#""match": {"cluster": "b"}, "redirect": {"cluster": "b"}"#,
            "rules[0].redirect.cluster: it is for TCP connections, and `match.cluster` is known of HTTP requests only; remove one of the two",
        ),
    ]);
    only_rule(
        r#""match": {"path_prefix": "/"}, "redirect": {"header": {"name": "x", "value": "y"}}"#,
    );
    let same = rule(
        r#""protocol": "postgres", "reject": {"tcp": "protocol"},
           "redirect": {"cluster": "tidegate-refuse"}"#,
    );
    assert_eq!(
        refused_in(INSPECTS, &same),
        "rules[0].redirect.cluster: `reject.cluster` is \"tidegate-refuse\", too, where connections are refused; write another cluster, or remove the redirect"
    );
}

#[test]
fn what_needs_a_limit_is_refused_without_one_that_leaves_something() {
    all_refused([
        (
            r#""classes": [{"name": "a", "reserved": 1}], "adaptive": true"#,
            "rules[0].classes[0].reserved: these are places of a limit, and there is none; write `limits.inflight`, or remove it\n\
             rules[0].adaptive: it lowers a limit, and there is none; write `limits.inflight`, or remove it",
        ),
        (
            r#""limits": {"inflight": 10}, "classes": [
              {"name": "a", "match": {"source": ["::1"]}, "reserved": 4}, {"name": "b", "reserved": 6}]"#,
            "rules[0].classes: 10 places are reserved of `limits.inflight: 10`, which leaves nothing for anybody else; reserve less, or raise the limit",
        ),
    ]);
    only_rule(r#""limits": {"inflight": 10}, "classes": [{"name": "a", "reserved": 9}]"#);
    only_rule(r#""limits": {"connecting": 10}, "classes": [{"name": "a", "reserved": 0}]"#);
}

#[test]
fn a_user_is_not_told_apart_by_a_key_that_tells_nobody_apart() {
    all_refused([(
        r#""key": "none", "sticky": "key""#,
        "rules[0].sticky: `key: none` tells nobody apart; write another key in the rule, or source_ip here",
    )]);
    only_rule(r#""key": "none", "sticky": "source_ip""#);
}
