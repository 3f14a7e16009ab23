//! The backstop in the files to copy: Envoy's own ceilings are the rules' limits.

use std::path::PathBuf;

use serde_json::Value;

use super::{files, root};

/// A rule's limit, and the ceilings that are to be the same.
#[derive(Debug)]
struct Pair {
    limit: u64,
    ceilings: Vec<u64>,
}

impl Pair {
    fn agrees(&self) -> bool {
        !self.ceilings.is_empty() && self.ceilings.iter().all(|ceiling| *ceiling == self.limit)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn limit(rules: &Value) -> u64 {
    let [rule] = list(rules) else {
        panic!("{rules}");
    };
    rule["limits"]["inflight"].as_u64().expect("a limit")
}

/// The pairs of a bootstrap: one for each of tidegate's filters.
fn of_bootstrap(text: &str) -> Vec<Pair> {
    let bootstrap: Value = serde_saphyr::from_str(text).expect("YAML");
    let resources = &bootstrap["static_resources"];
    let listeners = list(&resources["listeners"]).iter();
    let chains = listeners.flat_map(|listener| list(&listener["filter_chains"]));
    let pair = |chain: &Value| {
        let filters = list(&chain["filters"]);
        let last = &filters.last()?["typed_config"];
        let routes = &last["route_config"]["virtual_hosts"][0]["routes"];
        let (filters, cluster, names) = match list(&last["http_filters"]) {
            [] => (
                filters,
                &last["cluster"],
                ["max_connections", "max_pending_requests"],
            ),
            requests => (
                requests,
                &routes[0]["route"]["cluster"],
                ["max_requests", "max_pending_requests"],
            ),
        };
        let ours = filters.iter().find(|filter| filter["name"] == "tidegate")?;
        let plugin = &ours["typed_config"]["config"]["configuration"]["value"];
        let plugin: Value = serde_json::from_str(plugin.as_str()?).expect("JSON");
        let mut clusters = list(&resources["clusters"]).iter();
        let cluster = clusters.find(|one| one["name"] == *cluster)?;
        let threshold = &cluster["circuit_breakers"]["thresholds"][0];
        Some(Pair {
            limit: limit(&plugin["rules"]),
            ceilings: names
                .iter()
                .filter_map(|name| threshold[name].as_u64())
                .collect(),
        })
    };
    chains.filter_map(pair).collect()
}

/// What is commented out at the end of a manifest.
pub fn commented(text: &str) -> Vec<Value> {
    let Some((_, block)) = text.split_once("\n#---\n") else {
        return Vec::new();
    };
    let lines = block.lines().map(|line| {
        let line = line.strip_prefix('#').expect("it goes on to the end");
        format!("{line}\n")
    });
    serde_saphyr::from_multiple(&lines.collect::<String>()).expect("YAML")
}

/// The limits of the plugins in a manifest.
fn limits(text: &str) -> Vec<u64> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    let limit_of = |object: &Value| {
        let spec = &object["spec"];
        let patched = "/jsonPatches/0/operation/value/typed_config/config/configuration/value";
        let rules = match (object["kind"].as_str()?, spec.pointer(patched)) {
            ("WasmPlugin", _) => spec["pluginConfig"]["rules"].clone(),
            ("TrafficExtension", _) => spec["wasm"]["pluginConfig"]["rules"].clone(),
            ("EnvoyExtensionPolicy", _) => spec["wasm"][0]["config"]["rules"].clone(),
            (_, Some(json)) => {
                let plugin: Value = serde_json::from_str(json.as_str()?).expect("JSON");
                plugin["rules"].clone()
            }
            _ => return None,
        };
        Some(limit(&rules))
    };
    objects.iter().filter_map(limit_of).collect()
}

/// The pairs of a manifest: each plugin has its policy, in the same order.
fn of_manifest(text: &str) -> Vec<Pair> {
    let policies = commented(text);
    let limits = limits(text);
    assert_eq!(limits.len(), policies.len());
    let pair = |(limit, policy): (u64, &Value)| {
        let spec = &policy["spec"];
        let pool = &spec["trafficPolicy"]["connectionPool"];
        let objects = [&pool["http"], &pool["tcp"], &spec["circuitBreaker"]];
        let fields = objects.into_iter().filter_map(Value::as_object).flatten();
        Pair {
            limit,
            ceilings: fields.filter_map(|(_, ceiling)| ceiling.as_u64()).collect(),
        }
    };
    limits.into_iter().zip(&policies).map(pair).collect()
}

fn bootstraps() -> Vec<PathBuf> {
    let mut files = files("envoy", "yaml");
    files.retain(|path| !path.ends_with("compose.yaml"));
    files.push(root().join("envoy/compose/envoy.yaml"));
    files
}

/// Those that have a plugin.
fn manifests() -> Vec<PathBuf> {
    let mut files = [files("envoy/istio", "yaml"), files("envoy/gateway", "yaml")].concat();
    files.retain(|path| !path.ends_with("metrics.yaml") && !path.ends_with("proxy.yaml"));
    files
}

#[test]
fn the_backstop_of_every_bootstrap_is_its_rules_limit() {
    let mut seen = 0;
    for path in bootstraps() {
        let pairs = of_bootstrap(&text(&path));
        assert!(!pairs.is_empty(), "{}", path.display());
        for pair in pairs {
            assert!(pair.agrees(), "{}: {pair:?}", path.display());
            assert_eq!(pair.ceilings.len(), 2, "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 8);
}

#[test]
fn the_backstop_of_every_manifest_is_its_rules_limit() {
    let mut seen = 0;
    for path in manifests() {
        for pair in of_manifest(&text(&path)) {
            assert!(pair.agrees(), "{}: {pair:?}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}

/// The text with another number behind one of the names.
fn with_another(text: &str, at: usize, name: &str) -> String {
    let (before, after) = text.split_at(at + name.len());
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .expect("an end of the number");
    format!("{before}7{}", &after[end..])
}

#[test]
fn a_backstop_or_a_limit_that_is_another_is_found() {
    let names = [
        "\"inflight\": ",
        "inflight: ",
        "max_requests: ",
        "max_pending_requests: ",
        "max_connections: ",
        "http2MaxRequests: ",
        "maxConnections: ",
        "maxPendingRequests: ",
        "maxParallelRequests: ",
    ];
    let found = |text: &str, pairs: fn(&str) -> Vec<Pair>| {
        let mut count = 0;
        for name in names {
            for (at, _) in text.match_indices(name) {
                let number = &text[at + name.len()..];
                // Not a ceiling of requests' connections, or of refusals, and not a word.
                if !number.starts_with(|c: char| c.is_ascii_digit()) || number.starts_with("10000")
                {
                    continue;
                }
                let other = with_another(text, at, name);
                assert!(!pairs(&other).iter().all(Pair::agrees), "{other}");
                count += 1;
            }
        }
        count
    };
    for path in bootstraps() {
        assert!(found(&text(&path), of_bootstrap) >= 3, "{}", path.display());
    }
    for path in manifests() {
        assert!(found(&text(&path), of_manifest) >= 2, "{}", path.display());
    }
}
