//! A filter that runs tidegate, as it was written somewhere.

use std::ops::Range;

use tidegate::config::Build;

use crate::{report::Finding, source::Node};

/// What goes through a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

/// Who makes the filter out of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Envoy itself.
    Envoy,
    /// Istio, from a WasmPlugin or a TrafficExtension.
    Istio,
    /// Envoy Gateway, from an EnvoyExtensionPolicy.
    Gateway,
}

/// How the plugin's configuration was written.
#[derive(Clone, Debug)]
pub enum Written<'n> {
    /// Not at all.
    Nothing,
    /// As text that holds JSON.
    Text(&'n Node),
    /// As an object.
    Tree(&'n Node),
    /// In a way that the plugin can't read; and what to write.
    Wrong(Range<usize>, String),
}

/// A filter that runs tidegate.
#[derive(Debug)]
pub struct Filter<'n> {
    /// Its name, or what there is instead.
    pub place: Range<usize>,
    /// What goes through it.
    pub traffic: Traffic,
    /// Who makes it.
    pub host: Host,
    /// Envoy: its PluginConfig. Otherwise: the object with the plugin's fields.
    pub plugin: Option<&'n Node>,
    /// The plugin's configuration.
    pub written: Written<'n>,
    /// Which module it loads.
    pub build: Build,
    /// Envoy: filters of one `vm_id` share budgets.
    pub vm_id: Option<&'n str>,
    /// The port of its listener, where that is known.
    pub port: Option<u16>,
    /// The clusters that the traffic goes to, where they are known.
    pub upstreams: Vec<&'n str>,
}

impl Filter<'_> {
    /// Checks what is around the plugin's configuration.
    pub fn check(&self, findings: &mut Vec<Finding>) {
        let mut warn = |what: &str, place: &Range<usize>| {
            findings.push(Finding::warning(what, place.clone()));
        };
        match self.host {
            Host::Envoy => {
                let policy = self.plugin.and_then(|node| node.proto("failure_policy"));
                let open = self.plugin.and_then(|node| node.proto("fail_open"));
                match (policy, open) {
                    (None, None) => warn(
                        "failure_policy is missing: after a fault of the plugin, everything is \
                         refused until Envoy starts anew; write `failure_policy: FAIL_RELOAD`",
                        &self.place,
                    ),
                    (Some(node), _) if node.text() == Some("FAIL_RELOAD") => {}
                    (Some(node), _) | (None, Some(node)) => warn(
                        "after a fault, this plugin never comes back; \
                         write `failure_policy: FAIL_RELOAD`",
                        &node.span,
                    ),
                }
                if self.vm_id.is_none_or(str::is_empty) {
                    warn(
                        "vm_id is missing: what is counted is shared with every other plugin that \
                         has none; write `vm_id: tidegate` into vm_config",
                        &self.place,
                    );
                }
            }
            Host::Istio => match self.plugin.and_then(|node| node.get("failStrategy")) {
                Some(node) if node.text() == Some("FAIL_RELOAD") => {}
                Some(node) => warn(
                    "after a fault, this plugin never comes back; write `failStrategy: FAIL_RELOAD`",
                    &node.span,
                ),
                None => warn(
                    "failStrategy is missing: after a fault of the plugin, everything is refused \
                     until the proxy starts anew; write `failStrategy: FAIL_RELOAD`",
                    &self.place,
                ),
            },
            Host::Gateway => {}
        }
    }
}

/// The module that is named in here; the one that can more, when none is.
pub fn build(code: Option<&Node>) -> Build {
    let mut inspects = false;
    let mut plain = false;
    if let Some(code) = code {
        code.any_text(&mut |text| {
            // `oci://registry.example/tidegate:0.1.0`
            let image = text.rsplit('/').next().unwrap_or(text);
            let image = image.split([':', '@']).next().unwrap_or(image);
            inspects |= text.contains("tidegate-inspect");
            plain |= text.contains("tidegate.wasm") || image == "tidegate";
            false
        });
    }
    Build {
        inspect: inspects || !plain,
    }
}

/// Whether some text in here names tidegate.
pub fn names_tidegate(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.any_text(&mut |text| text.to_lowercase().contains("tidegate")))
}
