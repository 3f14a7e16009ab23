//! What the control planes make of the manifests: filters, patches, and a bootstrap around them.

use std::{fs, net::SocketAddr};

use serde_json::{Value, json};

use crate::harness::{
    Bootstrap,
    places::{self, Folder},
};

const TYPE: &str = "type.googleapis.com/";

/// The objects of a manifest in `envoy/`.
pub struct Manifest(Vec<Value>);

impl Manifest {
    pub fn read(file: &str) -> Self {
        let path = places::repository("envoy").join(file);
        let text = fs::read_to_string(path).expect(file);
        Self(documents(&text))
    }

    /// The objects of a kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    /// What Istio's EnvoyFilters add to this part of the configuration.
    pub fn added(&self, part: &str) -> Vec<Value> {
        let filters = self.of("EnvoyFilter").into_iter();
        let patches = filters.flat_map(|filter| list(&filter["spec"]["configPatches"]));
        let fits =
            |patch: &&Value| patch["applyTo"] == part && patch["patch"]["operation"] == "ADD";
        patches
            .filter(fits)
            .map(|patch| patch["patch"]["value"].clone())
            .collect()
    }

    /// The operations of Envoy Gateway's patches, with the kind and the name of what they patch.
    pub fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let policies = self.of("EnvoyPatchPolicy").into_iter();
        let patches = policies.flat_map(|policy| list(&policy["spec"]["jsonPatches"]));
        let told = patches.map(|patch| {
            let kind = text(&patch["type"]).rsplit('.').next().expect("a kind");
            (kind, text(&patch["name"]), &patch["operation"])
        });
        told.collect()
    }
}

/// The documents of a file that hold something.
pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// A plugin that a control plane loads.
pub struct Plugin {
    /// What Envoy's `PluginConfig` gets.
    config: Value,
    /// The plugin's own configuration.
    pub rules: Value,
    /// Whether it sees connections.
    pub network: bool,
}

impl Plugin {
    /// As Istio makes it of a WasmPlugin or a TrafficExtension: without a `vm_id`.
    pub fn of_istio(object: &Value) -> Self {
        let spec = &object["spec"];
        let plugin = spec.get("wasm").unwrap_or(spec);
        let metadata = &object["metadata"];
        let name = format!(
            "{}.{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        let policy = match text(&plugin["failStrategy"]) {
            "FAIL_CLOSE" => "FAIL_CLOSED",
            other => other,
        };
        let config = json!({
            "name": name,
            "failure_policy": policy,
            "vm_config": vm("", text(&plugin["url"])),
        });
        Self {
            config,
            rules: plugin["pluginConfig"].clone(),
            network: plugin["type"] == "NETWORK",
        }
    }

    /// As Envoy Gateway makes it of the first plugin of an EnvoyExtensionPolicy.
    pub fn of_gateway(policy: &Value) -> Self {
        let plugin = &policy["spec"]["wasm"][0];
        let image = text(&plugin["code"]["image"]["url"]);
        Self {
            config: json!({"name": plugin["name"], "vm_config": vm(&gateway_name(policy), image)}),
            rules: plugin["config"].clone(),
            network: false,
        }
    }

    /// The name of its first rule.
    pub fn rule(&self) -> String {
        text(&self.rules["rules"][0]["name"]).to_owned()
    }

    /// The cluster that its first rule is about, or any.
    pub fn cluster(&self) -> String {
        let cluster = self.rules["rules"][0].pointer("/match/cluster");
        cluster.map_or("upstream", text).to_owned()
    }

    /// With one more field of `PluginConfig`.
    pub fn with(mut self, field: &str, value: &Value) -> Self {
        self.config[field] = value.clone();
        self
    }

    /// Refuses at once whoever comes while another is there.
    pub fn one_at_a_time(mut self) -> Self {
        enforce(&mut self.rules);
        self
    }

    /// With another limit of its first rule.
    pub fn limit(mut self, inflight: &Value) -> Self {
        self.rules["rules"][0]["limits"]["inflight"] = inflight.clone();
        self
    }

    pub fn filter(&self) -> Value {
        let kind = if self.network { "network" } else { "http" };
        let mut config = self.config.clone();
        config["configuration"] = json!({
            "@type": format!("{TYPE}google.protobuf.StringValue"),
            "value": self.rules.to_string(),
        });
        let kind = format!("{TYPE}envoy.extensions.filters.{kind}.wasm.v3.Wasm");
        json!({"name": config["name"], "typed_config": {"@type": kind, "config": config}})
    }
}

/// A filter whose configuration comes apart from the listener, as Istio's proxies get it.
pub struct Discovered {
    folder: Folder,
    pub filter: Value,
}

impl Discovered {
    /// With what the plugin's configuration is at first.
    pub fn first(plugin: &Plugin) -> Self {
        let folder = Folder::new();
        let filter = plugin.filter();
        let path = folder.path().join("ecds.json");
        let source = json!({"path": path, "watched_directory": {"path": folder.path()}});
        let discovery = json!({
            "config_source": {"path_config_source": source},
            "type_urls": [filter["typed_config"]["@type"]],
        });
        let filter = json!({"name": filter["name"], "config_discovery": discovery});
        let discovered = Self { folder, filter };
        discovered.put(plugin);
        discovered
    }

    /// With another configuration from now on.
    pub fn put(&self, plugin: &Plugin) {
        let mut extension = plugin.filter();
        extension["@type"] = json!(format!("{TYPE}envoy.config.core.v3.TypedExtensionConfig"));
        let text = json!({"resources": [extension]}).to_string();
        let new = self.folder.path().join("new.json");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.folder.path().join("ecds.json")).expect("delivered");
    }
}

/// Changes a configuration so that the first rule takes one at a time, and nobody waits.
pub fn enforce(rules: &mut Value) {
    rules["mode"] = json!("enforce");
    rules["rules"][0]["limits"] = json!({"inflight": 1});
    rules["rules"][0]["hold"] = json!("off");
}

/// Whose name Envoy Gateway gives to the first plugin of a policy.
pub fn gateway_name(policy: &Value) -> String {
    let metadata = &policy["metadata"];
    let (space, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    format!("envoyextensionpolicy/{space}/{name}/wasm/0")
}

/// The machine that runs the build which an image holds.
fn vm(id: &str, image: &str) -> Value {
    let image = image.rsplit('/').next().expect("a name");
    let build = image.split(':').next().expect("a name");
    json!({
        "vm_id": id,
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": module(build)}},
    })
}

/// The file of a build.
pub fn module(build: &str) -> String {
    let module = places::given("TIDEGATE_WASM_DIR").join(format!("{build}.wasm"));
    module.to_str().expect("a path in UTF-8").to_owned()
}

/// A bootstrap around what is made of a manifest.
#[derive(Clone)]
pub struct Made(Value);

impl Made {
    /// With what Istio's own says about metrics and internal listeners.
    pub fn by_istio() -> Self {
        let values = Manifest::read("istio/metrics.yaml").0.remove(0);
        let tags = list(&values["meshConfig"]["defaultConfig"]["extraStatTags"]).iter();
        let tags: Vec<Value> = tags
            .map(|tag| {
                let tag = text(tag);
                json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")})
            })
            .collect();
        Self::new(json!({
            "stats_config": {
                "use_all_default_tags": false,
                "stats_tags": tags,
                "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "wasm"}]}},
            },
            "bootstrap_extensions": [{
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": format!("{TYPE}udpa.type.v1.TypedStruct"),
                    "type_url":
                        format!("{TYPE}envoy.extensions.bootstrap.internal_listener.v3.InternalListener"),
                    "value": {"buffer_size_kb": 64},
                },
            }],
        }))
    }

    /// With what is merged into Envoy Gateway's own.
    pub fn by_gateway() -> Self {
        let manifest = Manifest::read("gateway/proxy.yaml");
        let bootstrap = &manifest.of("EnvoyProxy")[0]["spec"]["bootstrap"];
        assert_eq!(bootstrap["type"], "Merge");
        Self::new(documents(text(&bootstrap["value"])).remove(0))
    }

    fn new(mut tree: Value) -> Self {
        let any = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        tree["admin"] = json!({"address": any});
        tree["node"] = json!({"id": "test", "cluster": "test"});
        tree["static_resources"] = json!({"listeners": [], "clusters": []});
        Self(tree)
    }

    /// Before an upstream, with filters.
    pub fn before(self, upstream: SocketAddr, cluster: &str, filters: &[Value]) -> Self {
        let port =
            json!({"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}});
        let endpoint = json!({"endpoint": {"address": port}});
        self.listener(json!({
            "name": "entry",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": filters}],
        }))
        .cluster(json!({
            "name": cluster,
            "load_assignment": {
                "cluster_name": cluster,
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        }))
    }

    pub fn listener(mut self, listener: Value) -> Self {
        let listeners = self.0["static_resources"]["listeners"].as_array_mut();
        listeners.expect("a list").push(listener);
        self
    }

    pub fn cluster(mut self, cluster: Value) -> Self {
        let clusters = self.0["static_resources"]["clusters"].as_array_mut();
        clusters.expect("a list").push(cluster);
        self
    }

    /// With all that Istio's EnvoyFilters add.
    pub fn patched(self, manifest: &Manifest) -> Self {
        let made = manifest
            .added("LISTENER")
            .into_iter()
            .fold(self, Self::listener);
        manifest
            .added("CLUSTER")
            .into_iter()
            .fold(made, Self::cluster)
    }

    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            text: serde_json::to_string_pretty(&self.0).expect("JSON"),
        }
    }
}

/// The filter behind a network plugin.
pub fn tcp_proxy(cluster: &str) -> Value {
    let kind = format!("{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    let config = json!({"@type": kind, "stat_prefix": "entry", "cluster": cluster});
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}

/// The filter around an HTTP plugin.
pub fn connection_manager(cluster: &str, plugin: Value) -> Value {
    let manager = "network.http_connection_manager.v3.HttpConnectionManager";
    let router = format!("{TYPE}envoy.extensions.filters.http.router.v3.Router");
    let router = json!({"name": "router", "typed_config": {"@type": router}});
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}});
    let host = json!({"name": "all", "domains": ["*"], "routes": [route]});
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.filters.{manager}"),
            "stat_prefix": "entry",
            "route_config": {"virtual_hosts": [host]},
            "http_filters": [plugin, router],
        },
    })
}
