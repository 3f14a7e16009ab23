//! Finds tidegate's filters in whatever Envoy reads: bootstraps, listeners, patches.

use super::filter::{Filter, Host, Traffic, Written, build, names_tidegate};
use crate::{
    report::Finding,
    source::{Kind, Node},
};

/// What is known of the way to a node.
#[derive(Clone, Default)]
struct Context<'n> {
    /// The name beside it.
    name: Option<&'n Node>,
    port: Option<u16>,
    upstreams: Vec<&'n str>,
}

/// Adds all filters that run tidegate, and what is wrong with their order.
pub fn filters<'n>(node: &'n Node, found: &mut Vec<Filter<'n>>, findings: &mut Vec<Finding>) {
    visit(node, &Context::default(), found, findings);
}

fn visit<'n>(
    node: &'n Node,
    context: &Context<'n>,
    found: &mut Vec<Filter<'n>>,
    findings: &mut Vec<Finding>,
) {
    if let Some(traffic) = wasm(node) {
        found.extend(filter(node, traffic, context));
        return;
    }
    match &node.kind {
        Kind::List(list) => {
            for element in list {
                visit(element, context, found, findings);
            }
        }
        Kind::Object(fields) => {
            let mut context = context.clone();
            context.name = node.get("name").filter(|name| name.text().is_some());
            if let Some(port) = node.path(["address", "socket_address", "port_value"]) {
                context.port = port.number().map(|port| port as u16);
            }
            for field in fields {
                let mut context = context.clone();
                let chain = match field.name.as_str() {
                    "filters" => true,
                    "http_filters" | "httpFilters" => {
                        context.upstreams.clear();
                        if let Some(routes) = node.proto("route_config") {
                            clusters(routes, &mut context.upstreams);
                        }
                        true
                    }
                    _ => false,
                };
                if chain {
                    order(&field.value, findings);
                    for filter in field.value.elements() {
                        if let Some(typed) = filter.proto("typed_config")
                            && type_of(typed).is_some_and(|name| name.ends_with(".TcpProxy"))
                        {
                            clusters(content(typed), &mut context.upstreams);
                        }
                    }
                }
                visit(&field.value, &context, found, findings);
            }
        }
        _ => {}
    }
}

/// The type of a message that may be any, such as `envoy.extensions.filters.http.wasm.v3.Wasm`.
fn type_of(node: &Node) -> Option<&str> {
    let name = short(node.get("@type")?.text()?);
    if name.ends_with("type.v1.TypedStruct") || name.ends_with("type.v3.TypedStruct") {
        return Some(short(node.proto("type_url")?.text()?));
    }
    Some(name)
}

/// `type.googleapis.com/a.b.C` → `a.b.C`.
fn short(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// The fields of a message that may be any.
fn content(node: &Node) -> &Node {
    match node.proto("type_url") {
        Some(_) => node.get("value").unwrap_or(node),
        None => node,
    }
}

/// What goes through this, when it is a wasm filter.
fn wasm(node: &Node) -> Option<Traffic> {
    match type_of(node)? {
        "envoy.extensions.filters.http.wasm.v3.Wasm" => Some(Traffic::Http),
        "envoy.extensions.filters.network.wasm.v3.Wasm" => Some(Traffic::Tcp),
        _ => None,
    }
}

/// The filter, when it is tidegate's.
fn filter<'n>(node: &'n Node, traffic: Traffic, context: &Context<'n>) -> Option<Filter<'n>> {
    let plugin = content(node).proto("config");
    let vm = plugin.and_then(|plugin| plugin.proto("vm_config"));
    let field = |name| plugin.and_then(|plugin| plugin.proto(name));
    let ours = names_tidegate(context.name)
        || names_tidegate(field("name"))
        || names_tidegate(field("root_id"))
        || names_tidegate(vm);
    if !ours {
        return None;
    }
    let place = context.name.or(field("name")).unwrap_or(node);
    Some(Filter {
        place: place.span.clone(),
        traffic,
        host: Host::Envoy,
        plugin,
        written: field("configuration").map_or(Written::Nothing, written),
        build: build(vm.and_then(|vm| vm.proto("code"))),
        vm_id: vm.and_then(|vm| vm.proto("vm_id")?.text()),
        port: context.port,
        upstreams: context.upstreams.clone(),
    })
}

/// How `configuration`, which may hold any message, was written.
fn written(node: &Node) -> Written<'_> {
    const TO_WRITE: &str = "write `\"@type\": type.googleapis.com/google.protobuf.StringValue` \
                            and the JSON text as `value`";
    let wrong = |what: &str| Written::Wrong(node.span.clone(), format!("{what}; {TO_WRITE}"));
    let Some(url) = node.get("@type").and_then(Node::text) else {
        return wrong("configuration: \"@type\" is missing");
    };
    let value = node.get("value");
    match (short(url), value) {
        ("google.protobuf.StringValue" | "google.protobuf.Struct", None) => Written::Nothing,
        ("google.protobuf.StringValue", Some(value)) => match value.kind {
            Kind::Text(_) => Written::Text(value),
            _ => Written::Wrong(
                value.span.clone(),
                "configuration: the value of a StringValue is text; write `value: |` and the JSON \
                 below, or `google.protobuf.Struct` as its \"@type\""
                    .to_owned(),
            ),
        },
        ("google.protobuf.Struct", Some(value)) => Written::Tree(value),
        (other, _) => wrong(&format!("configuration: found {other}")),
    }
}

/// A filter behind the one that ends its chain never sees anything.
fn order(chain: &Node, findings: &mut Vec<Finding>) {
    let mut last = None;
    for filter in chain.elements() {
        let Some(typed) = filter.proto("typed_config") else {
            continue;
        };
        let name = filter.get("name");
        if let Some(last) = last
            && wasm(typed).is_some()
            && (names_tidegate(name) || names_tidegate(content(typed).proto("config")))
        {
            let what = format!(
                "placed after {last}, which ends the chain, it never sees anything; \
                 write it before {last}"
            );
            let place = name.unwrap_or(filter).span.clone();
            findings.push(Finding::error(what, place));
        }
        last = last.or_else(|| {
            let (_, kind) = type_of(typed)?.rsplit_once('.')?;
            match kind {
                "TcpProxy" => Some("tcp_proxy"),
                "HttpConnectionManager" => Some("http_connection_manager"),
                "Router" => Some("router"),
                _ => None,
            }
        });
    }
}

/// The clusters that are named in here as destinations.
fn clusters<'n>(node: &'n Node, names: &mut Vec<&'n str>) {
    for field in node.fields() {
        match field.name.as_str() {
            "cluster" => names.extend(field.value.text()),
            "weighted_clusters" | "weightedClusters" => {
                for cluster in field
                    .value
                    .proto("clusters")
                    .iter()
                    .flat_map(|list| list.elements())
                {
                    names.extend(cluster.get("name").and_then(Node::text));
                }
            }
            _ => clusters(&field.value, names),
        }
    }
    for element in node.elements() {
        clusters(element, names);
    }
}
