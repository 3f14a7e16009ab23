//! What a bootstrap says around the filters: clusters, circuit breakers, tags.

use tidegate::{
    config::{Rule, TcpReject},
    engine::Mode,
};

use super::{Configured, filter::Traffic};
use crate::{
    report::Finding,
    source::{Kind, Node},
};

/// The tags that turn a metric's name into labels. Without the last two `tidegate_build_info` has
/// another name, and the alert that looks for it is told of nobody.
pub const TAGS: [&str; 5] = ["rule", "reason", "kind", "version", "commit"];
/// Envoy's own ceilings where a cluster says nothing.
const DEFAULT_CEILING: f64 = 1024.0;

/// Checks a document that is a bootstrap; leaves any other alone.
pub fn check(document: &Node, filters: &[Configured<'_>], findings: &mut Vec<Finding>) {
    let Some(resources) = document.proto("static_resources") else {
        return;
    };
    // That of the live page has no metrics, and no cluster of its own.
    let Some(first) = filters.iter().find(|filter| !filter.policy.tells_status()) else {
        return;
    };
    stats_tags(document, first, findings);

    let clusters = resources.proto("clusters").map_or(&[][..], Node::elements);
    // Others may come from a control plane.
    let all_known = document.path(["dynamic_resources", "cds_config"]).is_none()
        && document.path(["dynamic_resources", "ads_config"]).is_none();
    for filter in filters {
        for (index, rule) in filter.policy.rules().iter().enumerate() {
            let at = format!("rules[{index}]");
            if all_known {
                unknown_clusters(filter, rule, &at, clusters, findings);
            }
            breakers(filter, rule, &at, clusters, findings);
        }
    }
}

fn stats_tags(document: &Node, first: &Configured<'_>, findings: &mut Vec<Finding>) {
    let config = document.proto("stats_config");
    if let Some(what) = missing_tags(document) {
        let place = config.map_or(&first.filter.place, |config| &config.span);
        findings.push(Finding::warning(what, place.clone()));
    }
}

/// What to write when a bootstrap lacks some of the tags.
pub fn missing_tags(document: &Node) -> Option<String> {
    let tags = document.path(["stats_config", "stats_tags"]);
    let regex = |tag: &str| format!(r"({tag}=\.=(.*?);\.;)");
    // Envoy takes any other regex, too, and leaves the label in the name.
    let given = |tag: &str| {
        let mut tags = tags.map_or(&[][..], Node::elements).iter();
        tags.any(|given| {
            let text = |field| given.proto(field).and_then(Node::text);
            text("tag_name") == Some(tag) && text("regex") == Some(regex(tag).as_str())
        })
    };
    let missing: Vec<_> = TAGS.into_iter().filter(|tag| !given(tag)).collect();
    if missing.is_empty() {
        return None;
    }
    let lines = missing
        .iter()
        .map(|tag| format!("{{tag_name: {tag}, regex: '{}'}}", regex(tag)));
    Some(format!(
        "stats_config.stats_tags lacks {}: without it the metrics have no such label, but a name \
         for each; write exactly {}",
        missing.join(", "),
        lines.collect::<Vec<_>>().join(", ")
    ))
}

fn named<'n>(clusters: &'n [Node], name: &str) -> Option<&'n Node> {
    let mut clusters = clusters.iter();
    clusters.find(|cluster| cluster.get("name").and_then(Node::text) == Some(name))
}

fn unknown_clusters(
    filter: &Configured<'_>,
    rule: &Rule,
    at: &str,
    clusters: &[Node],
    findings: &mut Vec<Finding>,
) {
    if let TcpReject::Protocol { cluster } = &rule.reject.tcp
        && filter.filter.traffic == Traffic::Tcp
        && named(clusters, cluster).is_none()
    {
        let path = format!("{at}.reject.cluster");
        let what = format!(
            "{path}: the bootstrap defines no cluster \"{cluster}\", so refused clients can't be \
             answered; define it as in envoy/postgres.yaml or envoy/mysql.yaml, or write `tcp: close`"
        );
        findings.push(Finding::error(what, filter.places.locate(&path)));
    }
    if let Some(cluster) = &rule.matcher.cluster
        && filter.filter.traffic == Traffic::Http
        && named(clusters, cluster).is_none()
    {
        let path = format!("{at}.match.cluster");
        let what = format!(
            "{path}: the bootstrap defines no cluster \"{cluster}\", so the rule never matches; \
             write the name of one that it defines"
        );
        findings.push(Finding::warning(what, filter.places.locate(&path)));
    }
}

/// A ceiling of Envoy below the rule's limit refuses what the rule would admit. One at the limit is
/// a backstop, but not in shadow, where the rule refuses nobody.
fn breakers(
    filter: &Configured<'_>,
    rule: &Rule,
    at: &str,
    clusters: &[Node],
    findings: &mut Vec<Finding>,
) {
    let Some(limit) = rule.limits.inflight.map(|limit| f64::from(limit.get())) else {
        return;
    };
    // What waits for a connection is open to the rule, too.
    let ceilings = match filter.filter.traffic {
        Traffic::Http => ["max_requests", "max_pending_requests"],
        Traffic::Tcp => ["max_connections", "max_pending_requests"],
    };
    let port = filter.filter.port;
    if port.is_some_and(|port| !rule.matcher.has_listener_port(port)) {
        return;
    }
    for upstream in &filter.filter.upstreams {
        let Some(cluster) =
            named(clusters, upstream).filter(|_| rule.matcher.has_cluster(upstream))
        else {
            continue;
        };
        let threshold = cluster
            .path(["circuit_breakers", "thresholds"])
            .and_then(|thresholds| thresholds.elements().iter().find(|one| is_default(one)));
        for name in ceilings {
            let given = threshold.and_then(|threshold| threshold.proto(name));
            let ceiling = given.and_then(Node::number).unwrap_or(DEFAULT_CEILING);
            let said = match given {
                Some(_) => "",
                None => " (Envoy's default)",
            };
            let why = if ceiling < limit {
                format!(
                    "below {at}.limits.inflight {limit}, so Envoy refuses before the rule does; \
                     write {limit}"
                )
            } else if ceiling == limit && given.is_some() && rule.mode != Mode::Enforce {
                format!(
                    "as {at}.limits.inflight, which the rule does not enforce, so Envoy refuses what \
                     the rule lets pass; leave it out until the rule enforces"
                )
            } else {
                continue;
            };
            let what = format!(
                "circuit breaker of cluster \"{upstream}\": {name} is {ceiling}{said}, {why}"
            );
            let place = given.or(cluster.get("name")).unwrap_or(cluster);
            if !findings.iter().any(|other| other.what == what) {
                findings.push(Finding::warning(what, place.span.clone()));
            }
        }
    }
}

fn is_default(threshold: &Node) -> bool {
    match threshold.get("priority").map(|priority| &priority.kind) {
        None => true,
        Some(Kind::Text(text)) => text.value == "DEFAULT",
        Some(Kind::Number(number)) => *number == 0.0,
        Some(_) => false,
    }
}
