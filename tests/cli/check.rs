//! `check`: what is right passes, what is wrong is shown where it is.

use super::{files, root, run, run_with};

/// The findings on stderr: `error` or `warning`, place, message.
fn findings(err: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut what = None;
    for line in err.lines() {
        let line = line.trim();
        if let Some(message) = line.strip_prefix("× ") {
            what = Some(format!("error: {message}"));
        } else if let Some(message) = line.strip_prefix("⚠ ") {
            what = Some(format!("warning: {message}"));
        } else if let Some((_, place)) = line.split_once("─[")
            && let Some(what) = what.take()
        {
            let place = place.trim_end_matches(']');
            findings.push(format!("{place}: {what}"));
        }
    }
    findings
}

/// Checks text, and gives what is found.
pub fn found(text: &str) -> Vec<String> {
    let checked = run_with(&["check", "-"], text);
    assert_eq!(checked.code, 1, "{text}\n{}{}", checked.out, checked.err);
    assert_eq!(checked.out, "");
    findings(&checked.err)
}

#[test]
fn every_file_to_copy_is_without_findings() {
    // What Compose reads has tests of its own.
    let bootstraps = files("envoy", "yaml")
        .into_iter()
        .filter(|path| !path.ends_with("compose.yaml"));
    for path in bootstraps {
        let name = path
            .strip_prefix(root())
            .expect("a part")
            .display()
            .to_string();
        let checked = run(&["check", "--strict", &name]);
        assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{name}");
        // Two listeners, with the same filter.
        let sum = match name.as_str() {
            "envoy/migration.yaml" => "2 filters, 2 rules",
            _ => "1 filter, 1 rule",
        };
        assert_eq!(checked.out, format!("{name}: ok ({sum})\n"));
    }
}

#[test]
fn manifests_for_istio_and_envoy_gateway_pass() {
    for (name, sum) in [
        ("istio-network.yaml", "1 filter, 1 rule"),
        ("istio-http.yaml", "2 filters, 3 rules"),
        ("istio-filter.yaml", "2 filters, 2 rules"),
        ("gateway.yaml", "2 filters, 2 rules"),
        ("lds.json", "1 filter, 1 rule"),
    ] {
        let name = format!("tests/cli/data/{name}");
        let checked = run(&["check", "--strict", &name]);
        assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{name}");
        assert_eq!(checked.out, format!("{name}: ok ({sum})\n"));
    }
}

#[test]
fn a_plugin_configuration_may_be_json_or_yaml() {
    for text in [
        "",
        "{}",
        "{mode: off, rules: [{name: a}]}",
        r#"{"mode": "off", "rules": [{"name": "a"}]}"#,
        "mode: off\nrules:\n- name: a\n  hold: off\n  limits: {inflight: 100.0}\n",
    ] {
        let checked = run_with(&["check", "-"], text);
        assert_eq!(checked.err, "", "{text}");
        assert_eq!(
            (checked.code, checked.out.as_str()),
            (0, "<stdin>: ok (1 rule)\n")
        );
    }
}

#[test]
fn the_filter_of_the_live_page_needs_nothing_around_it_and_answers_requests_only() {
    let file = "envoy/status/listener.yaml";
    let checked = run(&["check", "--strict", file]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    assert_eq!(checked.out, format!("{file}: ok (1 filter, 0 rules)\n"));

    let tcp = std::fs::read_to_string("envoy/tcp.yaml").expect("it is there");
    let (before, rest) = tcp.split_once("\"mode\"").expect("a configuration");
    let (_, after) = rest.split_once("}]\n").expect("its end");
    let checked = run_with(
        &["check", "-"],
        &format!("{before}\"status\": true\n{after}"),
    );
    assert_eq!(checked.code, 1);
    let found = findings(&checked.err);
    assert!(
        found
            .iter()
            .any(|found| found.contains("status: requests are answered, and this filter sees TCP")),
        "{found:#?}"
    );
}

#[test]
fn each_finding_is_shown_at_its_place_in_the_file() {
    let checked = run(&["check", "tests/cli/data/bad.yaml"]);
    assert_eq!((checked.code, checked.out.as_str()), (1, ""));
    let expected = [
        "3:3: warning: stats_config.stats_tags lacks reason, kind, version, commit",
        "12:15: warning: failure_policy is missing",
        "12:15: warning: vm_id is missing",
        "24:47: error: rules[0].limits: unknown field `inflght`; did you mean `inflight`?",
        "25:42: error: rules[0].hold.max_wait: 100 has no unit; write a duration",
        "45:15: error: placed after tcp_proxy, which ends the chain",
        "49:29: warning: after a fault, this plugin never comes back",
        "57:52: error: rules[0].reject.cluster: the bootstrap defines no cluster \"nowhere\"",
        "73:29: warning: rules[0]: the rule \"orders-db\" is in filters of vm_id \"tidegate\" and \"another\"",
        "73:63: warning: rules[0].match.cluster: known of HTTP requests, and this filter sees TCP",
        "78:11: warning: circuit breaker of cluster \"postgres\": max_connections is 1024 (Envoy's default), below rules[0].limits.inflight 5000, so Envoy refuses before the rule does; write 5000",
        "78:11: warning: circuit breaker of cluster \"postgres\": max_pending_requests is 1024 (Envoy's default), below",
    ];
    let mut found = findings(&checked.err);
    found.sort_by_key(|finding| place(finding));
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let expected = format!("tests/cli/data/bad.yaml:{expected}");
        assert!(found.starts_with(&expected), "{found}\n{expected}");
    }
    assert!(
        checked
            .err
            .ends_with("tests/cli/data/bad.yaml: 4 errors, 8 warnings\n"),
        "{}",
        checked.err
    );
}

/// The line and the column of a finding, and its message.
fn place(finding: &str) -> (usize, usize, String) {
    let mut parts = finding.split(':').skip(1);
    let mut number = || {
        parts
            .next()
            .and_then(|part| part.parse().ok())
            .expect(finding)
    };
    (number(), number(), finding.to_owned())
}

#[test]
fn a_warning_is_an_error_to_the_strict_alone() {
    let file = std::fs::read_to_string(root().join("envoy/tcp.yaml")).expect("a file");
    let text = file.replace("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_CLOSED");
    let checked = run_with(&["check", "-"], &text);
    assert_eq!(checked.code, 0);
    assert_eq!(checked.out, "<stdin>: ok (1 filter, 1 rule), 1 warning\n");
    assert!(checked.err.contains("never comes back"), "{}", checked.err);
    let strict = run_with(&["check", "--strict", "-"], &text);
    assert_eq!((strict.code, strict.out.as_str()), (1, ""));
}

#[test]
fn a_ceiling_of_envoys_is_warned_of_where_it_refuses_what_the_rule_lets_pass() {
    let warned = |file: &str, old: &str, new: &str| {
        let text = std::fs::read_to_string(root().join(file)).expect("a file");
        assert_eq!(text.matches(old).count(), 1, "{file}: {old}");
        let checked = run_with(&["check", "-"], &text.replace(old, new));
        assert_eq!(checked.code, 0, "{}", checked.err);
        findings(&checked.err)
    };
    for (file, old, new, says) in [
        (
            "envoy/tcp.yaml",
            "max_connections: 100,",
            "max_connections: 99,",
            &["max_connections is 99, below rules[0].limits.inflight 100"][..],
        ),
        (
            "envoy/http.yaml",
            "max_pending_requests: 100,",
            "max_pending_requests: 5,",
            &["max_pending_requests is 5, below"],
        ),
        ("envoy/http.yaml", ", max_requests: 100}", "}", &[]),
        (
            "envoy/tcp.yaml",
            "\"mode\": \"enforce\"",
            "\"mode\": \"shadow\"",
            &[
                "max_connections is 100, as rules[0].limits.inflight, which the rule does not enforce",
                "max_pending_requests is 100, as rules[0].limits.inflight, which",
            ],
        ),
    ] {
        let found = warned(file, old, new);
        assert_eq!(found.len(), says.len(), "{found:?}");
        for (found, says) in found.iter().zip(says) {
            assert!(found.contains(says), "{found}: {says}");
        }
    }
}

#[test]
fn a_file_that_can_not_be_read_ends_with_2_and_the_others_are_checked() {
    let checked = run(&["check", "no/such.yaml", "envoy/tcp.yaml"]);
    assert_eq!(checked.code, 2);
    assert_eq!(checked.out, "envoy/tcp.yaml: ok (1 filter, 1 rule)\n");
    assert!(
        checked
            .err
            .starts_with("tidegatectl: cannot read no/such.yaml: ")
    );
}

#[test]
fn a_slip_in_the_notation_is_shown_where_it_is() {
    assert_eq!(
        found("{\"mode\": \"off\",\n \"rules\": [}"),
        ["<stdin>:2:12: error: it can't be read: expected value"]
    );
    let yaml = found("mode: off\nrules: [{name: a}\n");
    assert!(yaml[0].contains("error: it can't be read: "), "{yaml:?}");
    assert_eq!(
        found("mode: off\nrules: [{name: a}]\nmode: shadow\n"),
        ["<stdin>:3:1: error: the field `mode` is given twice; remove one of the two"]
    );
    let bytes = super::ran(super::command(&["check", "-"]), b"mode: \xff");
    assert_eq!(
        findings(&bytes.err),
        ["<stdin>:1:7: error: it is no UTF-8 text here"]
    );
}

#[test]
fn an_error_in_embedded_json_is_shown_in_the_file() {
    let file = std::fs::read_to_string(root().join("envoy/tcp.yaml")).expect("a file");
    let text = file.replace("\"name\": \"service\",", "\"name\": \"service\"");
    let line = text
        .lines()
        .position(|line| line.contains("\"limits\""))
        .expect("a line")
        + 1;
    assert_eq!(
        found(&text),
        [format!(
            "<stdin>:{line}:21: error: (configuration): expected `,` or `}}`; correct the JSON there"
        )]
    );
    let quoted = std::fs::read_to_string(root().join("tests/cli/data/lds.json")).expect("a file");
    let text = quoted.replace("\\\"inflight\\\": 50", "\\\"inflight\\\": 0");
    let line = text
        .lines()
        .position(|line| line.contains("\\\"inflight"))
        .expect("a line")
        + 1;
    assert_eq!(
        found(&text),
        [format!(
            "<stdin>:{line}:86: error: rules[0].limits.inflight: 0 is not a limit; leave it out for none"
        )]
    );
}

#[test]
fn a_module_that_reads_no_protocols_can_not_answer_in_them() {
    let file = std::fs::read_to_string(root().join("envoy/postgres.yaml")).expect("a file");
    let found = found(&file.replace("tidegate-inspect.wasm", "tidegate.wasm"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("load tidegate-inspect.wasm or write `tcp: close`"));
}

#[test]
fn a_document_without_tidegate_is_a_finding() {
    for text in [
        "static_resources: {listeners: []}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: tidegate}\n",
    ] {
        let found = found(text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("<stdin>:1:1: error: no tidegate filter found"),
            "{found:?}"
        );
    }
}

#[test]
fn a_rule_for_connections_has_no_place_in_an_http_plugin() {
    let data =
        |name: &str| std::fs::read_to_string(root().join("tests/cli/data").join(name)).expect(name);
    let gateway = data("gateway.yaml").replace("match: {method: [POST]}", "protocol: postgres");
    let findings = found(&gateway);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].contains(":21:19: error: rules[0].protocol: `postgres` is spoken over TCP"),
        "{findings:?}"
    );
    let istio = data("istio-network.yaml").replace("type: NETWORK", "type: HTTP");
    assert!(found(&istio)[0].contains("write `type: NETWORK` for connections"));
    let network = data("istio-http.yaml").replace("phase: AUTHZ", "type: NETWORK");
    assert!(found(&network)[0].contains("so the rule never matches"));
    let after = data("istio-filter.yaml").replace("INSERT_BEFORE", "INSERT_AFTER");
    assert!(found(&after)[0].contains("write `operation: INSERT_BEFORE`"));
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{inner}]\n");
    }
    assert!(found(&text)[0].contains("too large"));
}

/// A network filter with a rule, as it stands in a listener.
fn filter(vm_id: &str, rule: &str) -> String {
    format!(
        "- filters:\n  - name: tidegate\n    typed_config:\n      \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm\n      \
         config:\n        failure_policy: FAIL_RELOAD\n        configuration:\n          \
         \"@type\": type.googleapis.com/google.protobuf.Struct\n          \
         value: {{rules: [{rule}]}}\n        vm_config: {{vm_id: {vm_id}}}\n"
    )
}

#[test]
fn filters_that_share_a_rule_should_agree_about_it() {
    let first = filter("a", "{name: db, limits: {inflight: 5}}");
    let both = |second: &str| {
        let text = format!("filter_chains:\n{first}{second}");
        let checked = run_with(&["check", "-"], &text);
        assert_eq!(checked.code, 0, "{}", checked.err);
        findings(&checked.err)
    };
    let same = both(&filter("a", "{name: db, limits: {inflight: 5}}"));
    assert!(same.is_empty(), "{same:?}");
    let others = both(&filter("b", "{name: api, limits: {inflight: 9}}"));
    assert!(others.is_empty(), "{others:?}");
    let limits = both(&filter("a", "{name: db, limits: {inflight: 9}}"));
    assert!(
        limits[0].contains("gives the rule \"db\" other limits"),
        "{limits:?}"
    );
    let apart = both(&filter("b", "{name: db, limits: {inflight: 5}}"));
    assert!(apart[0].contains("vm_id \"a\" and \"b\""), "{apart:?}");
}

#[test]
fn a_configuration_in_another_wrapping_is_refused_with_what_to_write() {
    let filter = filter("a", "{name: db}");
    let chains = |from: &str, to: &str| format!("filter_chains:\n{}", filter.replace(from, to));
    let bytes = found(&chains(
        "google.protobuf.Struct",
        "google.protobuf.BytesValue",
    ));
    assert!(
        bytes[0].contains("configuration: found google.protobuf.BytesValue; write"),
        "{bytes:?}"
    );
    let text = found(&chains(
        "google.protobuf.Struct",
        "google.protobuf.StringValue",
    ));
    assert!(
        text[0].contains("the value of a StringValue is text"),
        "{text:?}"
    );
}
