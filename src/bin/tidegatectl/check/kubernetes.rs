//! Finds tidegate's filters in manifests: of Istio, of Envoy Gateway, and patches of Envoy's own.

use tidegate::config::TcpReject;

use super::{
    Configured,
    filter::{Filter, Host, Traffic, Written, build, names_tidegate},
    walk,
};
use crate::{report::Finding, source::Node};

/// The objects of a manifest: those of a list, or itself.
pub fn objects(document: &Node) -> Vec<&Node> {
    let kind = document.get("kind").and_then(Node::text);
    match document.get("items") {
        Some(items) if kind.is_some_and(|kind| kind.ends_with("List")) => {
            items.elements().iter().flat_map(objects).collect()
        }
        _ => vec![document],
    }
}

/// Adds the filters that an object asks for.
pub fn filters<'n>(object: &'n Node, found: &mut Vec<Filter<'n>>, findings: &mut Vec<Finding>) {
    let name = object.path(["metadata", "name"]);
    let Some(spec) = object.get("spec") else {
        return;
    };
    match object.get("kind").and_then(Node::text) {
        Some("WasmPlugin") => found.extend(istio(name, spec, spec)),
        Some("TrafficExtension") => {
            found.extend(spec.get("wasm").and_then(|wasm| istio(name, spec, wasm)));
        }
        Some("EnvoyExtensionPolicy") => {
            let plugins = spec.get("wasm").map_or(&[][..], Node::elements);
            found.extend(plugins.iter().filter_map(|plugin| gateway(name, plugin)));
        }
        Some("EnvoyFilter") => {
            for patch in spec.get("configPatches").map_or(&[][..], Node::elements) {
                let before = found.len();
                walk::filters(patch, found, findings);
                if found.len() > before {
                    patch_order(patch, findings);
                }
            }
        }
        _ => walk::filters(spec, found, findings),
    }
}

/// A plugin that Istio loads.
fn istio<'n>(name: Option<&'n Node>, spec: &'n Node, plugin: &'n Node) -> Option<Filter<'n>> {
    let url = plugin.get("url");
    if !(names_tidegate(name) || names_tidegate(plugin.get("pluginName")) || names_tidegate(url)) {
        return None;
    }
    let network = plugin.get("type").and_then(Node::text) == Some("NETWORK");
    Some(Filter {
        place: name.unwrap_or(spec).span.clone(),
        traffic: if network { Traffic::Tcp } else { Traffic::Http },
        host: Host::Istio,
        plugin: Some(plugin),
        written: plugin
            .get("pluginConfig")
            .map_or(Written::Nothing, Written::Tree),
        build: build(url),
        vm_id: None,
        port: None,
        upstreams: Vec::new(),
    })
}

/// A plugin that Envoy Gateway loads, which is for HTTP always.
fn gateway<'n>(name: Option<&'n Node>, plugin: &'n Node) -> Option<Filter<'n>> {
    let code = plugin.get("code");
    let own = plugin.get("name");
    if ![name, own, plugin.get("rootID"), code]
        .into_iter()
        .any(names_tidegate)
    {
        return None;
    }
    Some(Filter {
        place: own.or(name).unwrap_or(plugin).span.clone(),
        traffic: Traffic::Http,
        host: Host::Gateway,
        plugin: Some(plugin),
        written: plugin.get("config").map_or(Written::Nothing, Written::Tree),
        build: build(code),
        vm_id: None,
        port: None,
        upstreams: Vec::new(),
    })
}

/// A patch that inserts behind the filter that ends the chain.
fn patch_order(patch: &Node, findings: &mut Vec<Finding>) {
    let Some(operation) = patch.path(["patch", "operation"]) else {
        return;
    };
    let after = ["match", "listener", "filterChain", "filter"];
    let Some(filter) = patch.path(after) else {
        return;
    };
    let inner = filter.path(["subFilter", "name"]);
    let Some(last) = inner.or_else(|| filter.get("name")).and_then(Node::text) else {
        return;
    };
    let ends = last.ends_with("tcp_proxy") || last.ends_with(".router");
    if ends && operation.text() == Some("INSERT_AFTER") {
        let what = format!(
            "inserted after {last}, which ends the chain, it never sees anything; \
             write `operation: INSERT_BEFORE`"
        );
        findings.push(Finding::error(what, operation.span.clone()));
    }
}

/// Adds the names of the clusters that an object adds to Envoy's.
pub fn clusters<'n>(object: &'n Node, names: &mut Vec<&'n str>) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    let of = |patches: &str| spec.get(patches).map_or(&[][..], Node::elements).iter();
    let text = |node: &'n Node, path| node.path(path).and_then(Node::text);
    match object.get("kind").and_then(Node::text) {
        Some("EnvoyFilter") => names.extend(of("configPatches").filter_map(|patch| {
            let added = patch.get("applyTo").and_then(Node::text) == Some("CLUSTER")
                && text(patch, ["patch", "operation"]) == Some("ADD");
            patch
                .path(["patch", "value", "name"])?
                .text()
                .filter(|_| added)
        })),
        Some("EnvoyPatchPolicy") => names.extend(of("jsonPatches").filter_map(|patch| {
            let kind = patch.get("type").and_then(Node::text)?;
            let added = kind.ends_with(".Cluster")
                && text(patch, ["operation", "op"]) == Some("add")
                && text(patch, ["operation", "path"]).is_none_or(str::is_empty);
            patch
                .path(["operation", "value", "name"])?
                .text()
                .filter(|_| added)
        })),
        _ => {}
    }
}

/// Refused clients are answered by a cluster, which no control plane makes by itself.
pub fn refusals(filters: &[Configured<'_>], added: &[&str], findings: &mut Vec<Finding>) {
    for one in filters {
        for (index, rule) in one.policy.rules().iter().enumerate() {
            let TcpReject::Protocol { cluster } = &rule.reject.tcp else {
                continue;
            };
            if one.filter.traffic == Traffic::Http || added.contains(&cluster.as_str()) {
                continue;
            }
            let path = format!("rules[{index}].reject.cluster");
            let what = format!(
                "{path}: no patch in this file adds a cluster \"{cluster}\", without which refused \
                 clients can't be answered; add it as in envoy/istio/postgres-sidecar.yaml, or write \
                 `tcp: close`"
            );
            let place = one.places.locate(&path);
            // It may be in another file; but where some are here, it is a slip.
            findings.push(if added.is_empty() {
                Finding::warning(what, place)
            } else {
                Finding::error(what, place)
            });
        }
    }
}
