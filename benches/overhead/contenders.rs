//! The filters that are compared, each in a listener of its own of one Envoy.
//!
//! One Envoy and one worker for all: what differs is the filter alone, and not the process.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::harness::{Bootstrap, places};

/// What listeners are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Requests, which Envoy answers itself, so that the upstream is not measured.
    Http,
    /// Connections, which are led to an upstream.
    Tcp,
}

/// A filter that is compared.
pub struct Contender {
    /// Its name for programs, and of its listener.
    pub slug: &'static str,
    /// Its name for people.
    pub name: &'static str,
    filter: Option<Value>,
    /// The rule that counts, of one that is tidegate.
    pub rule: Option<String>,
}

impl Contender {
    /// No filter.
    pub fn none() -> Self {
        Self {
            slug: "none",
            name: "no filter",
            filter: None,
            rule: None,
        }
    }

    /// One of Envoy's own, as `envoy.filters.…` with its type and its configuration.
    fn envoys(slug: &'static str, filter: &str, kind: &str, mut configuration: Value) -> Self {
        let kind = format!("type.googleapis.com/envoy.extensions.filters.{kind}");
        configuration["@type"] = json!(kind);
        Self {
            slug,
            name: slug,
            filter: Some(json!({"name": filter, "typed_config": configuration})),
            rule: None,
        }
    }

    /// A module with its configuration, in a machine of its own.
    pub fn wasm(
        layer: Layer,
        slug: &'static str,
        name: &'static str,
        code: &Path,
        configuration: &str,
    ) -> Self {
        let layer = match layer {
            Layer::Http => "http",
            Layer::Tcp => "network",
        };
        let kind = format!("type.googleapis.com/envoy.extensions.filters.{layer}.wasm.v3.Wasm");
        let text = "type.googleapis.com/google.protobuf.StringValue";
        let config = json!({
            "name": slug,
            "configuration": {"@type": text, "value": configuration},
            "vm_config": {
                "vm_id": slug,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": code}},
            },
        });
        Self {
            slug,
            name,
            filter: Some(json!({
                "name": slug,
                "typed_config": {"@type": kind, "config": config},
            })),
            rule: None,
        }
    }

    /// tidegate in a mode, with a rule that has these fields, after these other rules. It sees no
    /// surge, however unevenly the rounds come.
    pub fn tidegate(
        layer: Layer,
        slug: &'static str,
        name: &'static str,
        mode: &str,
        fields: Value,
        before: &[Value],
    ) -> Self {
        let module = match slug.contains("inspect") {
            true => "tidegate-inspect.wasm",
            false => "tidegate.wasm",
        };
        let code = places::given("TIDEGATE_WASM_DIR").join(module);
        let rule = slug.replace('_', "-");
        let mut last = json!({
            "name": rule,
            "surge": {"min_excess": 1_000_000, "warm_up": "1s", "baseline_per_s": 10_000},
        });
        if let (Value::Object(last), Value::Object(fields)) = (&mut last, fields) {
            last.extend(fields);
        }
        let rules: Vec<Value> = before.iter().cloned().chain([last]).collect();
        let configuration = json!({"mode": mode, "rules": rules}).to_string();
        Self {
            rule: Some(rule),
            ..Self::wasm(layer, slug, name, &code, &configuration)
        }
    }
}

/// No more than that a second: anything.
const ANY_RATE: u32 = 1_000_000_000;

/// The filters that see requests.
pub fn http(noop_wat: &Path, noop: &Path) -> Vec<Contender> {
    let bucket = json!({
        "max_tokens": ANY_RATE,
        "tokens_per_fill": ANY_RATE,
        "fill_interval": "1s",
    });
    let always = json!({
        "default_value": {"numerator": 100, "denominator": "HUNDRED"},
        "runtime_key": "always",
    });
    let ours = |slug, name, mode, fields, before: &[Value]| {
        Contender::tidegate(Layer::Http, slug, name, mode, fields, before)
    };
    let prefix = |name: &str, path: &str| json!({"name": name, "match": {"path_prefix": path}});
    vec![
        Contender::none(),
        Contender::envoys(
            "local_ratelimit",
            "envoy.filters.http.local_ratelimit",
            "http.local_ratelimit.v3.LocalRateLimit",
            json!({
                "stat_prefix": "local",
                "token_bucket": bucket,
                "filter_enabled": always,
                "filter_enforced": always,
            }),
        ),
        Contender::envoys(
            "admission_control",
            "envoy.filters.http.admission_control",
            "http.admission_control.v3.AdmissionControl",
            json!({
                "enabled": {"default_value": true, "runtime_key": "always"},
                "success_criteria": {"http_criteria": {"http_success_status": [{"start": 100, "end": 500}]}},
            }),
        ),
        Contender::envoys(
            "adaptive_concurrency",
            "envoy.filters.http.adaptive_concurrency",
            "http.adaptive_concurrency.v3.AdaptiveConcurrency",
            json!({
                "gradient_controller_config": {
                    "sample_aggregate_percentile": {"value": 90},
                    "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                    "min_rtt_calc_params": {
                        "interval": "60s",
                        "request_count": 50,
                        "min_concurrency": 1000,
                    },
                },
            }),
        ),
        Contender::wasm(
            Layer::Http,
            "noop_wat",
            "Wasm that does nothing, WAT",
            noop_wat,
            "",
        ),
        Contender::wasm(
            Layer::Http,
            "noop_rust",
            "Wasm that does nothing, Rust SDK",
            noop,
            "http",
        ),
        ours("shadow", "tidegate, shadow", "shadow", json!({}), &[]),
        ours("enforce", "tidegate, enforce", "enforce", json!({}), &[]),
        ours(
            "inflight",
            "tidegate, inflight limit",
            "enforce",
            json!({"limits": {"inflight": 1000}}),
            &[],
        ),
        ours(
            "header",
            "tidegate, header key",
            "enforce",
            json!({"key": "header:x-user"}),
            &[],
        ),
        ours(
            "rules",
            "tidegate, 5 rules by path, header key",
            "enforce",
            json!({"key": "header:x-user", "match": {"path_prefix": "/v1/"}}),
            &[
                prefix("admin", "/admin/"),
                prefix("search", "/search/"),
                prefix("upload", "/upload/"),
                prefix("login", "/login"),
            ],
        ),
    ]
}

/// The filters that see connections.
pub fn tcp(noop_wat: &Path, noop: &Path) -> Vec<Contender> {
    let bucket = json!({
        "max_tokens": ANY_RATE,
        "tokens_per_fill": ANY_RATE,
        "fill_interval": "1s",
    });
    let ours =
        |slug, name, fields| Contender::tidegate(Layer::Tcp, slug, name, "enforce", fields, &[]);
    vec![
        Contender::none(),
        Contender::envoys(
            "local_ratelimit",
            "envoy.filters.network.local_ratelimit",
            "network.local_ratelimit.v3.LocalRateLimit",
            json!({"stat_prefix": "local", "token_bucket": bucket}),
        ),
        Contender::wasm(
            Layer::Tcp,
            "noop_wat",
            "Wasm that does nothing, WAT",
            noop_wat,
            "",
        ),
        Contender::wasm(
            Layer::Tcp,
            "noop_rust",
            "Wasm that does nothing, Rust SDK",
            noop,
            "tcp",
        ),
        ours("enforce", "tidegate, enforce", json!({})),
        ours(
            "inflight",
            "tidegate, inflight limit",
            json!({"limits": {"inflight": 1000}}),
        ),
        ours("inspect", "tidegate-inspect, enforce", json!({})),
    ]
}

/// A bootstrap with a listener for each, the first of them so many places further, which leads to the
/// upstream if it is for connections.
pub fn bootstrap(
    layer: Layer,
    contenders: &[Contender],
    upstream: SocketAddr,
    first: usize,
) -> Bootstrap {
    let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let (before, from) = contenders.split_at(first % contenders.len());
    let listeners: Vec<Value> = from
        .iter()
        .chain(before)
        .map(|contender| {
            let last = match layer {
                Layer::Http => manager(contender.filter.as_ref()),
                Layer::Tcp => json!({
                    "name": "envoy.filters.network.tcp_proxy",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "bench",
                        "cluster": "upstream",
                    },
                }),
            };
            let first = contender.filter.iter().filter(|_| layer == Layer::Tcp);
            let filters: Vec<Value> = first.cloned().chain([last]).collect();
            json!({
                "name": contender.slug,
                "address": any_port,
                "filter_chains": [{"filters": filters}],
            })
        })
        .collect();
    let tag = |name: &str| {
        let regex = format!(r"({name}=\.=(.*?);\.;)");
        json!({"tag_name": name, "regex": regex})
    };
    let endpoint = json!({
        "endpoint": {"address": {"socket_address": {
            "address": upstream.ip(),
            "port_value": upstream.port(),
        }}},
    });
    let limits = json!({"max_connections": 10_000, "max_pending_requests": 10_000});
    let bootstrap = json!({
        "admin": {"address": any_port},
        "stats_config": {"stats_tags": [tag("rule"), tag("reason"), tag("kind")]},
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "upstream",
                "connect_timeout": "2s",
                "circuit_breakers": {"thresholds": [limits]},
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{"lb_endpoints": [endpoint]}],
                },
            }],
        },
    });
    // JSON is YAML.
    Bootstrap {
        text: bootstrap.to_string(),
    }
}

/// What answers requests, after a filter.
fn manager(filter: Option<&Value>) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    });
    let filters: Vec<Value> = filter.into_iter().cloned().chain([router]).collect();
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
                }],
            }]},
            "http_filters": filters,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_a_listener_with_its_filter() {
        let code = Path::new("x.wasm");
        let contenders = [
            Contender::none(),
            Contender::wasm(Layer::Tcp, "noop", "nothing", code, "tcp"),
        ];
        let upstream = SocketAddr::from(([127, 0, 0, 1], 7));
        let text = bootstrap(Layer::Tcp, &contenders, upstream, 0).text;
        let json: Value = serde_json::from_str(&text).unwrap();
        let listeners = json["static_resources"]["listeners"].as_array().unwrap();
        let filters = |index: usize| &listeners[index]["filter_chains"][0]["filters"];
        assert_eq!(filters(0).as_array().unwrap().len(), 1);
        assert_eq!(filters(1).as_array().unwrap().len(), 2);
        assert_eq!(filters(1)[0]["name"], "noop");
    }
}
