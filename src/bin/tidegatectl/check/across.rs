//! What filters of one Envoy say about the same rule.

use std::collections::BTreeMap;

use tidegate::config::Rule;

use super::Configured;
use crate::report::Finding;

/// Filters that name the same rule share its budget, when they share the `vm_id`.
pub fn check(filters: &[Configured<'_>], findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<&str, (&Configured<'_>, &Rule)> = BTreeMap::new();
    for one in filters {
        for (index, rule) in one.policy.rules().iter().enumerate() {
            let name = rule.name.as_str();
            let Some((earlier, other)) = seen.get(name) else {
                seen.insert(name, (one, rule));
                continue;
            };
            let (mine, theirs) = (one.filter.vm_id, earlier.filter.vm_id);
            let at = format!("rules[{index}]");
            if mine != theirs {
                let shown = |id: Option<&str>| id.unwrap_or_default().to_owned();
                let what = format!(
                    "{at}: the rule \"{name}\" is in filters of vm_id \"{}\" and \"{}\", which \
                     share nothing, so each has the whole budget; write the same vm_id, or \
                     another name",
                    shown(theirs),
                    shown(mine)
                );
                let place = one.places.locate(&format!("{at}.name"));
                findings.push(Finding::warning(what, place));
            } else if rule.limits != other.limits {
                let what = format!(
                    "{at}.limits: another filter gives the rule \"{name}\" other limits, and the \
                     two share one budget; write the same limits, or another name"
                );
                let place = one.places.locate(&format!("{at}.limits"));
                findings.push(Finding::warning(what, place));
            }
        }
    }
}
