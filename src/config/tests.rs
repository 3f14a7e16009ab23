use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{num::NonZeroU32, time::Duration};

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::engine::{DetectorConfig, Hold, Mode, Order};

mod properties;
mod refusals;
#[cfg(not(target_arch = "wasm32"))]
mod schema;

const INSPECTS: Build = Build { inspect: true };
const PLAIN: Build = Build { inspect: false };

/// The bytes of a value as a Struct, of anything but an object as a Value.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    fn block(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from([tag]);
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push((length % 0x80) as u8 | 0x80);
            length /= 0x80;
        }
        bytes.push(length as u8);
        bytes.extend(content);
        bytes
    }
    fn kind(value: &Value) -> Vec<u8> {
        match value {
            Value::Null => Vec::from([0x08, 0]),
            Value::Number(number) => [&[0x11][..], &number.to_le_bytes()].concat(),
            Value::Text(text) => block(0x1A, text.as_bytes()),
            Value::Bool(value) => Vec::from([0x20, u8::from(*value)]),
            Value::Object(_) => block(0x2A, &encode(value)),
            Value::List(list) => {
                let list = list.iter().flat_map(|value| block(0x0A, &kind(value)));
                block(0x32, &list.collect::<Vec<_>>())
            }
        }
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| {
                let name = block(0x0A, name.as_bytes());
                block(0x0A, &[name, block(0x12, &kind(value))].concat())
            })
            .collect(),
        other => kind(other),
    }
}

fn accepted(text: &str) -> Policy {
    parse(text.as_bytes(), PLAIN).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refused_in(build: Build, text: &str) -> String {
    match parse(text.as_bytes(), build) {
        Ok(policy) => panic!("{text}\n{policy:?}"),
        Err(error) => error.to_string(),
    }
}

fn refused(text: &str) -> String {
    refused_in(PLAIN, text)
}

/// A configuration with one rule, named `a`, that has these fields.
fn rule(fields: &str) -> String {
    format!(r#"{{"rules": [{{"name": "a", {fields}}}]}}"#)
}

fn only_rule(fields: &str) -> Rule {
    let policy = accepted(&rule(fields));
    assert_eq!(policy.rules().len(), 1);
    policy.rules()[0].clone()
}

/// Each is refused with exactly these findings.
fn all_refused<const N: usize>(cases: [(&str, &str); N]) {
    for (fields, findings) in cases {
        assert_eq!(refused(&rule(fields)), findings, "{fields}");
    }
}

#[test]
fn nothing_is_the_safe_default() {
    for nothing in [
        "",
        " \n",
        "\u{FEFF}",
        "{}",
        "{\"mode\": null, \"rules\": null}",
    ] {
        let policy = accepted(nothing);
        assert_eq!(policy.rules(), [Rule::default_in(Mode::Shadow)]);
        let rule = &policy.rules()[0];
        assert_eq!(rule.name.as_str(), "default");
        assert!(rule.matcher.is_everything());
        assert_eq!(rule.limits, crate::engine::Limits::default());
        assert_eq!(rule.reject.http_status, 503);
        assert_eq!(rule.reject.retry_after, Duration::from_secs(2));
        assert_eq!(rule.reject.tcp, TcpReject::Close);
        assert_eq!(rule.reject.slow, Some(Duration::from_secs(2)));
        assert_eq!(rule.reject.max_slow, 4096);
        assert_eq!((&rule.sticky, rule.adaptive), (&Sticky::SourceIp, false));
        assert!(rule.classes.is_empty() && rule.redirect.is_none());
    }
}

#[test]
fn every_field_ends_up_in_the_policy() {
    let policy = parse(
        br#"{
          "mode": "enforce",
          "rules": [
            {"name": "api", "match": {"cluster": "orders", "authority": "api.example",
               "path_prefix": "/v1/", "method": ["POST", "PUT"], "listener_port": 8080,
               "source": ["10.0.0.0/8", "2001:db8::1"]},
             "limits": {"inflight": 100, "arrivals_per_s": 500.0},
             "hold": {"max_wait": "1.5s", "max_waiting": 7, "order": "oldest_first"},
             "reject": {"http_status": 429, "retry_after": "500ms", "body": "later"}},
            {"name": "orders-db", "mode": "shadow", "match": {"listener_port": 5432},
             "protocol": "postgres", "limits": {"connecting": 20}, "hold": false,
             "reject": {"tcp": "protocol", "cluster": "refuse-here"}},
            {"name": "rest", "mode": false, "key": "none", "classes": [], "adaptive": false,
             "reject": {"slow": "off"}, "protocol": "mysql"}
          ]
        }"#,
        INSPECTS,
    )
    .unwrap();
    let [api, db, rest] = policy.rules() else {
        panic!("{policy:?}");
    };

    assert_eq!((api.name.as_str(), api.mode), ("api", Mode::Enforce));
    assert_eq!(api.matcher.cluster.as_deref(), Some("orders"));
    assert_eq!(api.matcher.authority.as_deref(), Some("api.example"));
    assert_eq!(api.matcher.path_prefix.as_deref(), Some("/v1/"));
    assert_eq!(api.matcher.methods, ["POST", "PUT"]);
    assert!(api.matcher.has_listener_port(8080) && !api.matcher.has_listener_port(80));
    assert!(api.matcher.has_source("10.1.1.1".parse().unwrap()));
    assert_eq!(api.matcher.sources[1].to_string(), "2001:db8::1/128");
    assert_eq!(api.protocol, Protocol::Tcp);
    assert_eq!(api.limits.inflight, NonZeroU32::new(100));
    assert_eq!(api.limits.arrivals_per_s, NonZeroU32::new(500));
    assert_eq!(api.limits.connecting, None);
    let hold = Hold {
        max_wait: Duration::from_millis(1500),
        max_waiting: NonZeroU32::new(7).unwrap(),
        order: Order::OldestFirst,
    };
    assert_eq!(api.hold, Some(hold));
    let reject = Reject {
        http_status: 429,
        retry_after: Duration::from_millis(500),
        body: "later".to_string(),
        tcp: TcpReject::Close,
        ..Reject::default()
    };
    assert_eq!(api.reject, reject);

    assert_eq!((db.mode, db.protocol), (Mode::Shadow, Protocol::Postgres));
    assert_eq!(db.limits.connecting, NonZeroU32::new(20));
    assert_eq!(db.hold, None);
    let cluster = "refuse-here".to_string();
    assert_eq!(db.reject.tcp, TcpReject::Protocol { cluster });

    assert_eq!((rest.mode, rest.protocol), (Mode::Off, Protocol::Mysql));
    assert!(rest.matcher.is_everything());
    assert_eq!(rest.reject.slow, None);
}

#[test]
fn who_is_served_first_and_where_the_others_go_are_read() {
    let http = only_rule(
        r#""limits": {"inflight": 100},
        "sticky": "header:X-User",
        "classes": [
          {"name": "admin", "match": {"source": ["10.9.0.0/16"]}, "priority": 0, "reserved": 5},
          {"name": "batch", "match": {"header": {"name": "X-Tier", "value": "Batch"}},
           "priority": 255.0},
          {"name": "rest"}],
        "redirect": {"cluster": "replica", "header": {"name": ":authority", "value": "b.example"}},
        "reject": {"slow": "100ms", "max_slow": 65536},
        "adaptive": true"#,
    );
    let header = |name: &str, value: &str| Header {
        name: name.to_string(),
        value: value.to_string(),
    };
    let class = |name: &str, priority, reserved, matcher| Class {
        name: name.to_string(),
        matcher,
        priority,
        reserved,
    };
    let admin = ClassMatch {
        sources: Vec::from([Cidr::parse("10.9.0.0/16").unwrap()]),
        header: None,
    };
    let batch = ClassMatch {
        sources: Vec::new(),
        header: Some(header("x-tier", "Batch")),
    };
    assert_eq!(
        http.classes,
        [
            class("admin", 0, 5, admin),
            class("batch", 255, 0, batch),
            class("rest", 1, 0, ClassMatch::default()),
        ]
    );
    assert_eq!(http.sticky, Sticky::Header("x-user".to_string()));
    let redirect = Redirect {
        cluster: Some("replica".to_string()),
        header: Some(header(":authority", "b.example")),
    };
    assert_eq!(http.redirect, Some(redirect));
    assert_eq!(http.reject.slow, Some(Duration::from_millis(100)));
    assert_eq!((http.reject.max_slow, http.adaptive), (65_536, true));

    for (text, sticky) in [
        ("source_ip", Sticky::SourceIp),
        ("key", Sticky::Key),
        ("cookie:Id", Sticky::Cookie("Id".to_string())),
    ] {
        assert_eq!(only_rule(&format!(r#""sticky": "{text}""#)).sticky, sticky);
    }
    for off in [r#""off""#, "false"] {
        let rule = only_rule(&format!(
            r#""reject": {{"slow": {off}}}, "adaptive": {off}"#
        ));
        assert_eq!((rule.reject.slow, rule.adaptive), (None, false));
    }
}

#[test]
fn who_is_a_caller_and_what_is_a_surge_are_read() {
    let text = r#""key": "header:X-Tenant",
        "surge": {"sensitivity": 3, "min_excess": 5.0, "warm_up": "10s", "baseline_per_s": 2.5}"#;
    let policy = accepted(&rule(text));
    let [given] = policy.rules() else {
        panic!("one rule");
    };
    assert_eq!(given.key, Key::Header("x-tenant".to_string()));
    let surge = DetectorConfig {
        sensitivity: 3.0,
        min_excess: 5.0,
        warm_up: Duration::from_secs(10),
        baseline_per_s: Some(2.5),
    };
    assert_eq!(given.surge, surge);
    let policy = accepted(&rule(r#""limits": {}"#));
    assert_eq!(policy.rules()[0].key, Key::SourceIp);
    assert_eq!(policy.rules()[0].surge, DetectorConfig::default());
}

#[test]
fn a_key_that_this_rule_can_never_read_is_refused() {
    let not_postgres = "rules[0].key: it is read from PostgreSQL connections; \
        write `protocol: postgres` in the rule, or another key";
    assert_eq!(refused(&rule(r#""key": "postgres.user""#)), not_postgres);
    let text = rule(r#""key": "postgres.user", "protocol": "postgres""#);
    parse(text.as_bytes(), INSPECTS).expect("right");
    assert!(refused_in(PLAIN, &text).contains("load tidegate-inspect.wasm"));
    let http = rule(r#""key": "header:x-user", "protocol": "mysql""#);
    assert!(refused(&http).starts_with("rules[0].key: it is known of HTTP requests only"));
}

#[test]
fn a_rule_of_tcp_may_say_all_that_is_of_tcp() {
    let text = r#"{
      "mode": "enforce",
      "rules": [{
        "name": "orders-db",
        "match": {"listener_port": 5432, "source": ["10.0.0.0/8"]},
        "protocol": "postgres",
        "limits": {"inflight": 100, "arrivals_per_s": 500, "connecting": 20},
        "key": "source_ip",
        "sticky": "key",
        "classes": [
          {"name": "admin", "match": {"source": ["10.9.0.0/16"]}, "priority": 0, "reserved": 5}],
        "surge": {"sensitivity": 2.0, "min_excess": 20, "warm_up": "60s", "baseline_per_s": 20},
        "hold": {"max_wait": "100ms", "max_waiting": 1024, "order": "newest_first"},
        "redirect": {"cluster": "orders-db-replica"},
        "reject": {"http_status": 503, "retry_after": "2s", "body": "...", "tcp": "protocol",
                   "cluster": "tidegate-refuse", "slow": "2s", "max_slow": 4096},
        "adaptive": true
      }]
    }"#;
    let policy = parse(text.as_bytes(), INSPECTS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.rules()[0].classes[0].reserved, 5);
}

#[test]
fn the_live_page_has_no_rules_and_nothing_else_goes_without() {
    let policy = accepted(r#"{"status": true}"#);
    assert!(policy.tells_status() && policy.rules().is_empty());
    for text in ["", r#"{"status": false}"#, r#"{"status": null}"#] {
        let policy = accepted(text);
        assert!(
            !policy.tells_status() && policy.rules().len() == 1,
            "{text}"
        );
    }
    let error = parse(br#"{"status": true, "rules": [{"name": "a"}]}"#, INSPECTS).unwrap_err();
    let told = error.findings()[0].to_string();
    assert_eq!(
        told,
        "status: it guards nothing; leave out either it or `rules`"
    );
}

#[test]
fn text_may_begin_with_a_newline_or_a_byte_order_mark() {
    for text in [
        "\n{\"mode\": \"off\"}",
        "\n \n\n{\"mode\":\"off\"}",
        "\u{FEFF}{\"mode\": \"off\"}",
    ] {
        assert_eq!(accepted(text).rules()[0].mode, Mode::Off);
    }
}

#[test]
fn an_error_in_the_json_names_its_line_and_column() {
    for text in [
        "{\"mode\": \"off\",\n  rules: 5}",
        "\n{\"mode\" \"off\"}",
        "{",
    ] {
        let what = refused(text);
        assert!(what.starts_with("(configuration): "), "{what}");
        assert!(
            what.contains(" at line ") && what.contains(" column "),
            "{what}"
        );
    }
}

#[test]
fn what_is_neither_json_nor_a_struct_is_shown_short() {
    for bytes in [
        &b"mode: enforce\nrules:\n"[..],
        b"null",
        b"[1]",
        b"\n\x00",
        b"\xff\xfe{",
        b"{\"mode\": \"\xff\"}",
        &[b'x'; 4096],
    ] {
        let error = parse(bytes, PLAIN).unwrap_err().to_string();
        assert!(error.starts_with("(configuration): found \""), "{error}");
        assert!(
            error.contains("; write JSON such as {\"mode\": \"shadow\"}"),
            "{error}"
        );
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_configuration_of_more_than_a_mebibyte_is_refused_unread() {
    let mut text = String::from("{}");
    text.extend(core::iter::repeat_n(' ', bounds::CONFIGURATION_BYTES - 2));
    accepted(&text);
    text.push(' ');
    assert_eq!(
        refused(&text),
        "(configuration): found 1048577 bytes; write at most 1048576"
    );
}

#[test]
fn no_text_is_echoed_at_length_or_with_control_characters() {
    let long = format!("\\u001b[2J{}", "x".repeat(100_000));
    for fields in [
        format!(r#""mode": "{long}""#),
        format!(r#""limits": {{"{long}": 1}}"#),
        format!(r#""match": {{"source": ["{long}"], "method": ["{long}"]}}"#),
        format!(r#""key": "{long}", "hold": "{long}", "protocol": "{long}""#),
        format!(r#""{long}": 1, "{long}": 1"#),
    ] {
        let error = parse(rule(&fields).as_bytes(), PLAIN).unwrap_err();
        for finding in error.findings() {
            assert!(finding.what.len() < 400, "{finding}");
            assert!(!finding.what.contains(char::is_control), "{finding}");
        }
    }
}
