//! Rules that can't apply to what goes through their filter.

use tidegate::config::{Policy, Protocol, Rule};

use super::{
    filter::{Filter, Host, Traffic},
    plugin::Places,
};
use crate::report::Finding;

/// Compares the rules of a filter with its traffic.
///
/// One configuration may serve an HTTP and a network filter of the same Envoy, so that is worth a
/// warning only; in a manifest, which makes filters of one kind, it is an error.
pub fn check(filter: &Filter<'_>, policy: &Policy, places: &Places, findings: &mut Vec<Finding>) {
    if policy.tells_status() && filter.traffic == Traffic::Tcp {
        let what = "status: requests are answered, and this filter sees TCP connections, which it lets \
                    pass; write the rules that guard them";
        findings.push(Finding::error(what, places.locate("status")));
    }
    for (index, rule) in policy.rules().iter().enumerate() {
        let Some((field, what)) = misplaced(filter, rule) else {
            continue;
        };
        let path = format!("rules[{index}].{field}");
        let place = places.locate(&path);
        let what = format!("{path}: {what}");
        findings.push(match filter.host {
            Host::Envoy => Finding::warning(what, place),
            Host::Istio | Host::Gateway => Finding::error(what, place),
        });
    }
}

/// The field of a rule that does not fit, and why.
fn misplaced(filter: &Filter<'_>, rule: &Rule) -> Option<(&'static str, String)> {
    let spoken = match rule.protocol {
        Protocol::Tcp => None,
        Protocol::Postgres => Some("postgres"),
        Protocol::Mysql => Some("mysql"),
    };
    let advice = match (filter.host, filter.traffic) {
        (Host::Envoy, Traffic::Http) => "write the rule into a network filter, or remove it",
        (Host::Envoy, Traffic::Tcp) => "write the rule into an HTTP filter, or remove it",
        (Host::Istio, Traffic::Http) => "write `type: NETWORK` for connections, or remove it",
        (Host::Istio, Traffic::Tcp) => "write `type: HTTP` for requests, or remove it",
        (Host::Gateway, _) => "an EnvoyPatchPolicy can add a network filter; remove it here",
    };
    match filter.traffic {
        Traffic::Http => {
            if let Some(spoken) = spoken {
                let what = format!(
                    "`{spoken}` is spoken over TCP connections, and this filter sees HTTP \
                     requests; {advice}"
                );
                return Some(("protocol", what));
            }
            let what = || {
                format!("it counts TCP connections, and this filter sees HTTP requests; {advice}")
            };
            (rule.limits.connecting.is_some()).then(|| ("limits.connecting", what()))
        }
        Traffic::Tcp => {
            let matcher = &rule.matcher;
            let field = [
                ("match.cluster", matcher.cluster.is_some()),
                ("match.authority", matcher.authority.is_some()),
                ("match.path_prefix", matcher.path_prefix.is_some()),
                ("match.method", !matcher.methods.is_empty()),
            ];
            let (field, _) = field.into_iter().find(|(_, given)| *given)?;
            let what = format!(
                "known of HTTP requests, and this filter sees TCP connections, so the rule never \
                 matches; {advice}"
            );
            Some((field, what))
        }
    }
}
