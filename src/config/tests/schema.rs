//! The schema and the parser agree.

use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;

use super::{properties::some_configuration, *};

static SCHEMA: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&json_schema()).expect("a schema"));

fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect(text)
}

fn why(text: &str) -> String {
    let errors = SCHEMA
        .iter_errors(&value(text))
        .map(|error| error.to_string())
        .collect::<Vec<_>>();
    errors.join("; ")
}

#[test]
fn it_is_a_schema_of_draft_2020_12() {
    let schema = json_schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    jsonschema::meta::validate(&schema).expect("valid");
}

#[test]
fn what_both_refuse() {
    let bad = [
        r#""limits": {"inflight": 0}"#,
        r#""limits": {"inflight": 1.5}"#,
        r#""limits": {"inflight": "100"}"#,
        r#""limits": {"arrivals_per_s": 1000001}"#,
        r#""limits": {"inflght": 1}"#,
        r#""limits": [100]"#,
        r#""mode": "on""#,
        r#""mode": true"#,
        r#""protocol": "redis""#,
        r#""match": {"method": ["get"]}"#,
        r#""match": {"method": []}"#,
        r#""match": {"method": "GET"}"#,
        r#""match": {"source": ["localhost"]}"#,
        r#""match": {"source": [null]}"#,
        r#""match": {"path_prefix": "v1"}"#,
        r#""match": {"cluster": ""}"#,
        r#""match": {"cluster": "a\nb"}"#,
        r#""match": {"listener_port": 65536}"#,
        r#""hold": true"#,
        r#""hold": "on""#,
        r#""hold": {"max_wait": 100}"#,
        r#""hold": {"max_wait": "100"}"#,
        r#""hold": {"max_waiting": 65537}"#,
        r#""hold": {"order": "random"}"#,
        r#""reject": {"http_status": 200}"#,
        r#""reject": {"retry_after": "-1s"}"#,
        r#""reject": {"tcp": "reset"}"#,
        r#""reject": {"slow": true}"#,
        r#""reject": {"max_slow": 65537}"#,
        r#""key": "ip""#,
        r#""sticky": "cookie:""#,
        r#""classes": [{"priority": 1}]"#,
        r#""classes": [{"name": "a", "priority": -1}]"#,
        r#""classes": [{"name": "a", "priority": 256}]"#,
        r#""classes": [{"name": "a", "reserved": 1000001}], "limits": {"inflight": 1}"#,
        r#""classes": [{"name": "a", "match": {"header": {"name": "x"}}}]"#,
        r#""classes": [{"name": "A"}]"#,
        r#""classes": [0, 1, 2, 3, 4, 5, 6, 7, 8]"#,
        r#""surge": {"sensitivity": 0}"#,
        r#""redirect": {"header": {"value": "x"}}"#,
        r#""redirect": {"header": {"name": ":path", "value": "x"}}"#,
        r#""redirect": {"header": {"name": ":Authority", "value": "x"}}"#,
        r#""redirect": {"header": {"name": "x", "value": null}}"#,
        r#""redirect": {"header": {"name": "x", "value": ""}}"#,
        r#""adaptive": "yes""#,
        r#""name": "Orders""#,
        r#""whatever": 1"#,
    ];
    for fields in bad {
        let text = if fields.starts_with(r#""name""#) {
            format!(r#"{{"rules": [{{{fields}}}]}}"#)
        } else {
            rule(fields)
        };
        refused_in(INSPECTS, &text);
        assert!(!SCHEMA.is_valid(&value(&text)), "{text}");
    }
    for text in [
        r#"{"rules": []}"#,
        r#"{"rules": [{}]}"#,
        r#"{"rules": [null]}"#,
        r#"{"rules": [{"name": null}]}"#,
        r#"{"rule": []}"#,
        r#"{"mode": "Enforce"}"#,
        "[]",
    ] {
        refused_in(INSPECTS, text);
        assert!(!SCHEMA.is_valid(&value(text)), "{text}");
    }
}

#[test]
fn what_both_accept() {
    for text in [
        "{}",
        r#"{"mode": null, "rules": null}"#,
        r#"{"mode": false}"#,
        &rule(r#""hold": false, "limits": {"inflight": 100.0}, "reject": {"slow": "off"}"#),
        &rule(r#""hold": null, "key": "none", "classes": [], "adaptive": "off""#),
        &rule(r#""match": {"source": ["10.0.0.0/8", "::1"], "method": ["M-SEARCH"]}"#),
    ] {
        accepted(text);
        assert!(SCHEMA.is_valid(&value(text)), "{text}: {}", why(text));
    }
}

/// A value that asks for something, for each field there is.
const ASKS: [&str; 8] = [
    r#""key": "source_ip""#,
    r#""sticky": "header:x-user""#,
    r#""classes": [{"name": "a", "match": {"header": {"name": "x", "value": "y"}}}]"#,
    r#""surge": {"sensitivity": 2.0, "min_excess": 20, "warm_up": "60s", "baseline_per_s": 2.5}"#,
    r#""redirect": {"cluster": "b", "header": {"name": ":authority", "value": "x"}}"#,
    r#""limits": {"inflight": 1}, "adaptive": true"#,
    r#""reject": {"slow": "2s"}"#,
    r#""reject": {"max_slow": 4096}"#,
];

#[test]
fn what_asks_for_something_is_valid() {
    for fields in ASKS {
        let text = rule(fields);
        only_rule(fields);
        assert!(SCHEMA.is_valid(&value(&text)), "{text}: {}", why(&text));
    }
}

#[test]
fn the_defaults_it_names_are_those_that_hold() {
    fn given(schema: &serde_json::Value) -> Option<serde_json::Value> {
        if let Some(default) = schema.get("default") {
            return Some(default.clone());
        }
        let schema = schema.get("anyOf").map_or(schema, |variants| &variants[0]);
        let fields = schema.get("properties")?.as_object()?;
        let fields = fields
            .iter()
            .filter_map(|(name, field)| Some((name.clone(), given(field)?)))
            .collect::<serde_json::Map<_, _>>();
        (!fields.is_empty()).then_some(serde_json::Value::Object(fields))
    }
    let schema = json_schema();
    let mut rule = given(&schema["properties"]["rules"]["items"]).expect("an object");
    assert_eq!(rule["hold"]["max_wait"], "100ms");
    rule["name"] = "a".into();
    let written =
        serde_json::json!({"mode": schema["properties"]["mode"]["default"], "rules": [rule]});
    assert_eq!(
        accepted(&written.to_string()),
        accepted(r#"{"rules": [{"name": "a"}]}"#)
    );
    let classes = &schema["properties"]["rules"]["items"]["properties"]["classes"];
    let mut class = given(&classes["items"]).expect("an object");
    class["name"] = "b".into();
    assert_eq!(
        only_rule(&format!(r#""classes": [{class}]"#)),
        only_rule(r#""classes": [{"name": "b"}]"#)
    );
}

proptest! {
    #[test]
    fn an_accepted_configuration_is_valid(text in some_configuration()) {
        if parse(text.as_bytes(), INSPECTS).is_ok() {
            prop_assert!(SCHEMA.is_valid(&value(&text)), "{}: {}", text, why(&text));
        }
    }
}
