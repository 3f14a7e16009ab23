//! What gives the metrics their labels where a control plane writes the bootstrap.

use super::bootstrap::{TAGS, missing_tags};
use crate::{
    report::Finding,
    source::{self, Node},
};

/// Checks the tags in a document that is about proxies as a whole. Whether it is.
pub fn check(document: &Node, findings: &mut Vec<Finding>) -> bool {
    match document.get("kind").and_then(Node::text) {
        Some("EnvoyProxy") => gateway(document, findings),
        Some("IstioOperator") => document
            .get("spec")
            .is_some_and(|spec| istio(spec, findings)),
        Some(_) => false,
        None => istio(document, findings),
    }
}

/// Istio makes tags of names, in the chart's values and in an IstioOperator.
fn istio(values: &Node, findings: &mut Vec<Finding>) -> bool {
    let Some(mesh) = values.get("meshConfig") else {
        return false;
    };
    let tags = mesh.path(["defaultConfig", "extraStatTags"]);
    let given = |tag: &&str| {
        let mut tags = tags.map_or(&[][..], Node::elements).iter();
        tags.any(|given| given.text() == Some(tag))
    };
    let missing: Vec<_> = TAGS.into_iter().filter(|tag| !given(tag)).collect();
    if !missing.is_empty() {
        let what = format!(
            "meshConfig.defaultConfig.extraStatTags lacks {}: without it the metrics have no such \
             label, but a name for each; add it",
            missing.join(", ")
        );
        let place = tags.unwrap_or(mesh).span.clone();
        findings.push(Finding::warning(what, place));
    }
    true
}

/// Envoy Gateway merges a bootstrap that is written as text.
fn gateway(proxy: &Node, findings: &mut Vec<Finding>) -> bool {
    let Some(bootstrap) = proxy.path(["spec", "bootstrap"]) else {
        return false;
    };
    let kind = bootstrap.get("type");
    if kind.and_then(Node::text) == Some("JSONPatch") {
        return true;
    }
    if kind.and_then(Node::text) != Some("Merge") {
        let what = "spec.bootstrap: this would be the whole bootstrap instead of Envoy Gateway's own; \
                    write `type: Merge`";
        findings.push(Finding::warning(
            what,
            kind.unwrap_or(bootstrap).span.clone(),
        ));
    }
    let Some((value, text)) = bootstrap
        .get("value")
        .and_then(|node| Some((node, node.text()?)))
    else {
        return true;
    };
    match source::read(text) {
        Ok(parsed) => {
            if let Some(what) = parsed.documents.first().and_then(missing_tags) {
                findings.push(Finding::warning(what, value.span.clone()));
            }
        }
        Err(error) => {
            let what = format!("spec.bootstrap.value: it can't be read: {}", error.what);
            findings.push(Finding::error(what, value.span.clone()));
        }
    }
    true
}
