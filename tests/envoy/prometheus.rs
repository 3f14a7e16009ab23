//! What is shipped for Prometheus and Grafana, before the real Prometheus and the real Envoy.

use std::{collections::BTreeSet, fs, process::Output, time::Duration};

use serde_json::Value;
use tidegate::engine::Spread;

use crate::{
    dashboard::{Dashboard, between},
    harness::{
        Conduct, Envoy, HTTP, Load, Upstream, http, load, places,
        prometheus::{Programs, Prometheus, Sample, programs},
        until,
    },
    promql::Expression,
};

const FOLDER: &str = "envoy/prometheus";
const CONFIG: &str = "prometheus.yml";
const RULES: &str = "tidegate.rules.yml";
const TESTS: &str = "tidegate.rules.test.yml";

/// The alerts that the traffic of the test makes true.
const TRUE: [&str; 6] = [
    "TidegateSurge",
    "TidegateRefusingNormalCallers",
    "TidegateUpstreamRefusing",
    "TidegateLimitLowered",
    "TidegateNotLoaded",
    "TidegateShadowWouldShed",
];

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

fn shipped(file: &str) -> String {
    let path = places::repository(FOLDER).join(file);
    fs::read_to_string(path).expect("it is there")
}

/// The names that follow a key of the rules.
fn names(text: &str, key: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(key))
        .map(|name| name.trim().to_owned())
        .collect()
}

fn content(programs: &Programs, arguments: &[&str]) {
    let Output {
        status,
        stdout,
        stderr,
    } = programs.promtool(&places::repository(FOLDER), arguments);
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{said}");
}

#[test]
fn promtool_is_content_with_the_scrape_configuration_and_the_rules() {
    let name = "promtool_is_content_with_the_scrape_configuration_and_the_rules";
    let Some(programs) = programs(name) else {
        return;
    };
    content(&programs, &["check", "config", CONFIG]);
    content(&programs, &["check", "rules", RULES]);
}

#[test]
fn every_rule_speaks_and_is_silent_when_it_should() {
    let Some(programs) = programs("every_rule_speaks_and_is_silent_when_it_should") else {
        return;
    };
    content(&programs, &["test", "rules", TESTS]);
}

#[test]
fn every_rule_is_tested_both_ways() {
    let (rules, tests) = (shipped(RULES), shipped(TESTS));
    let alerts = names(&rules, "alert:");
    assert!(alerts.len() >= 7, "{alerts:?}");
    for alert in alerts {
        let cases = tests.split("alertname: ").skip(1);
        let cases = cases.filter(|case| case.lines().next() == Some(&alert));
        let (silent, speaking): (Vec<_>, Vec<_>) = cases.partition(|case| {
            let expected = case.lines().nth(1).map(str::trim);
            expected == Some("exp_alerts: []")
        });
        assert!(!silent.is_empty(), "{alert} is never silent");
        assert!(!speaking.is_empty(), "{alert} never speaks");
    }
    let tested = names(&tests, "expr:");
    for record in names(&rules, "record:") {
        let found = tested.iter().any(|expr| expr.contains(&record));
        assert!(found, "{record} is not tested");
    }
}

/// The shipped rules and the shipped configuration, for an Envoy at this address, beside one that
/// shows nothing of the plugin; and often enough for a test.
fn files(envoy: &Envoy) -> [(&'static str, String); 2] {
    let set = |text: String, old: &str, new: &str| {
        assert_eq!(text.matches(old).count(), 1, "{old:?} in:\n{text}");
        text.replace(old, new)
    };
    let address = envoy.admin_address();
    let targets = [
        &format!("targets: ['{address}']"),
        &format!("  - targets: ['{address}']"),
        "    labels: {instance: bare}",
        "  relabel_configs:",
        "  - source_labels: [instance]",
        "    regex: bare",
        "    target_label: __param_filter",
        "    replacement: server.live",
    ];
    let targets = targets.join("\n");
    let config = set(shipped(CONFIG), "targets: ['127.0.0.1:9901']", &targets);
    let config = set(config, "  scrape_interval: 15s", "  scrape_interval: 1s");
    let config = set(config, "  scrape_interval: 5s", "  scrape_interval: 1s");
    let config = set(
        config,
        "evaluation_interval: 15s",
        "evaluation_interval: 1s",
    );
    let rules = set(shipped(RULES), "  interval: 1m", "  interval: 1s");
    [(CONFIG, config), (RULES, rules)]
}

/// Waits until an expression has a value that is a number, and has these labels.
fn until_it_says(prometheus: &Prometheus, whence: &str, text: &str, shown: &BTreeSet<String>) {
    let good = |sample: &Sample| {
        let has = |label: &String| sample.labels.contains_key(label);
        !sample.value.is_nan() && shown.iter().all(has)
    };
    until(|| {
        let samples = prometheus.query(text)?;
        let found = samples.iter().any(good);
        found
            .then_some(())
            .ok_or_else(|| format!("{whence}: {text} with {shown:?}: {samples:?}"))
    });
}

/// Waits until everything that an expression names is there, and it says something itself.
fn holds(prometheus: &Prometheus, whence: &str, read: &Expression, shown: &BTreeSet<String>) {
    for selector in &read.selectors {
        until_it_says(prometheus, whence, selector, &BTreeSet::new());
    }
    let selectors: Vec<String> = read.selectors.iter().cloned().collect();
    let known = prometheus.labels(&selectors);
    for label in &read.labels {
        assert!(
            known.contains(label),
            "{whence}: {label} is none of {known:?}"
        );
    }
    until_it_says(prometheus, whence, &read.unconditional, shown);
}

/// The rules as Prometheus has read them.
fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let data = prometheus.ask("rules", &[]).expect("the rules");
    let groups = data["groups"].as_array().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone());
    rules.collect()
}

fn text<'a>(rule: &'a Value, field: &str) -> &'a str {
    rule[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {rule}"))
}

/// An alert has all that an operator needs; returns the labels that its words need.
fn says_what_to_do(alert: &Value) -> BTreeSet<String> {
    assert!(
        SEVERITIES.contains(&text(&alert["labels"], "severity")),
        "{alert}"
    );
    let words = ["summary", "description"].map(|name| text(&alert["annotations"], name));
    assert!(words.iter().all(|words| words.ends_with('.')), "{alert}");
    let words = words.concat();
    let labels = between(&words, "{{", "}}")
        .filter_map(|inside| inside.strip_prefix("$labels.").map(str::to_owned));
    labels.collect()
}

/// A module that begins, and fails at the first request.
const TRAPPING: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) i32.const 1024)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)
    (func (export "proxy_on_delete") (param i32)))"#;

#[test]
fn a_virtual_machine_that_fails_is_counted_where_the_alert_looks() {
    // The rules and the dashboard ask for whatever is called like that.
    const ASKED: &str = "envoy_wasm_.*tidegate.*_vm_reload_(success|failure)";
    assert!(shipped(RULES).contains(&format!("{{__name__=~\"{ASKED}\"}}")));
    let dashboard = fs::read_to_string(places::repository("envoy/grafana/tidegate.json"));
    let asked = format!(r#"{{__name__=~\"{ASKED}\","#);
    assert!(dashboard.expect("the dashboard").contains(&asked));
    let (folder, nowhere) = (places::Folder::new(), ([127, 0, 0, 1], 9).into());
    let module = folder.path().join("tidegate.wasm");
    fs::write(&module, wat::parse_str(TRAPPING).expect("a module")).expect("written");
    let ours = places::given("TIDEGATE_WASM_DIR").join("tidegate.wasm");
    let [ours, module] = [&ours, &module].map(|path| path.to_str().expect("a path in UTF-8"));
    // As in the files to copy, and as Istio names the filter of a WasmPlugin.
    for (name, counted) in [
        ("tidegate", "tidegate"),
        ("shop.tidegate-orders", "shop_tidegate_orders"),
    ] {
        let counter = format!("envoy_wasm_{counted}_vm_reload_success");
        let own = "name: tidegate\n                # The plugin's own failure";
        let named = own.replace("tidegate", name);
        let bootstrap = HTTP.before(nowhere).set(ours, module).set(own, &named);
        let envoy = Envoy::start(&bootstrap, 1).complains();
        assert_eq!(envoy.metrics().sum(&counter, &[]), 0.0);
        let address = envoy.listener(HTTP.listener);
        // Whoever comes in the back-off is refused; the next machine is begun after it.
        until(|| {
            assert_eq!(http::get(address, "/").status, 503);
            let count = envoy.metrics().sum(&counter, &[]);
            (count >= 1.0)
                .then_some(())
                .ok_or_else(|| format!("{counter} does not count"))
        });
    }
}

/// A surge, an upstream that bears less than the limit, and a rule that is only tried.
const TRAFFIC: &str = r#"[
    {"name": "tried", "mode": "shadow", "match": {"path_prefix": "/tried"},
     "limits": {"inflight": 1}, "hold": "off"},
    {"name": "borne", "match": {"path_prefix": "/borne"}, "adaptive": true,
     "limits": {"inflight": 20}, "hold": "off", "surge": {"baseline_per_s": 5000}},
    {"name": "surging", "limits": {"inflight": 5},
     "hold": {"max_wait": "100ms", "max_waiting": 5}, "surge": {"baseline_per_s": 2}}]"#;

fn asking(envoy: &Envoy, words: &'static [u8], per_s: f64) -> load::Running {
    let load = Load {
        words,
        stay: Duration::from_secs(1),
        ..Load::new(envoy.listener(HTTP.listener), per_s)
    };
    load.start()
}

#[test]
fn every_expression_of_the_rules_and_of_the_dashboard_finds_its_series() {
    let name = "every_expression_of_the_rules_and_of_the_dashboard_finds_its_series";
    let Some(programs) = programs(name) else {
        return;
    };
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    upstream.take(Duration::from_millis(200));
    upstream.bear(Some(12));
    let envoy = Envoy::start(&HTTP.before(upstream.address).rules(TRAFFIC), 2);
    let prometheus = Prometheus::start(&programs, &files(&envoy));
    // Not before it was seen without any: a rate begins with the first sample.
    until(|| {
        let seen = prometheus.query("tidegate_build_info")?;
        (!seen.is_empty())
            .then_some(())
            .ok_or_else(|| "no scrape yet".to_owned())
    });
    let traffic = [
        asking(
            &envoy,
            b"GET /tried HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            20.0,
        ),
        asking(
            &envoy,
            b"GET /borne HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            100.0,
        ),
        asking(
            &envoy,
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            60.0,
        ),
    ];

    let mut alerts = BTreeSet::new();
    for rule in rules(&prometheus) {
        let (name, query) = (text(&rule, "name"), text(&rule, "query"));
        let mut shown = BTreeSet::new();
        if rule["type"] == "alerting" {
            alerts.insert(name.to_owned());
            shown = says_what_to_do(&rule);
        }
        holds(&prometheus, name, &Expression::read(query), &shown);
    }
    assert_eq!(
        alerts,
        names(&shipped(RULES), "alert:").into_iter().collect()
    );
    // The other one shows it for the alert above.
    let live = r#"envoy_server_live{instance!="bare"}"#;
    until_it_says(&prometheus, "the filter", live, &BTreeSet::new());
    let dashboard = Dashboard::read();
    for asked in dashboard.expressions() {
        holds(&prometheus, &asked.whence, &asked.expression, &asked.shown);
    }
    for alert in TRUE {
        let raised = format!("count_over_time(ALERTS{{alertname={alert:?}}}[5m])");
        until_it_says(&prometheus, alert, &raised, &BTreeSet::new());
    }
    for load in traffic {
        load.end();
    }

    // What the dashboard says of the log is there, but for what did not happen.
    envoy.until_event("surging", "surge_ended");
    let log = envoy.log();
    let [few, everybody] = [Spread::FewCallers, Spread::Everybody].map(Spread::name);
    let absent = [few, everybody, "tidegatectl explain LOG"];
    let words: BTreeSet<_> = between(dashboard.text(), " `", "`").collect();
    assert!(absent.iter().all(|word| words.contains(*word)), "{words:?}");
    for word in words {
        assert!(
            absent.contains(&word.as_str()) || log.contains(&word),
            "{word}"
        );
    }
}
