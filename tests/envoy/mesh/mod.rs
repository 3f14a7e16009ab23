//! The manifests for Istio and Envoy Gateway: what their control planes make of them, in the real
//! Envoy.

mod made;

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, Upstream, client::rest, connect, envoy::validate, fate, http,
    knock, places, until,
};
use made::{
    Discovered, Made, Manifest, Plugin, connection_manager, documents, enforce, gateway_name,
    module, tcp_proxy, text,
};

/// What a PostgreSQL client says first.
const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";
const REFUSED: &str = "too many connections: tidegate is at the limit of this database";

/// The manifests of a folder, by name.
fn manifests(folder: &str) -> Vec<Manifest> {
    let entries = fs::read_dir(places::repository("envoy").join(folder)).expect(folder);
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| Manifest::read(&format!("{folder}/{name}")))
        .collect()
}

/// A plugin's filter before an upstream, in what a control plane makes around it.
fn around(made: Made, plugin: &Plugin, filter: Value, upstream: SocketAddr) -> Made {
    let cluster = plugin.cluster();
    let filters = if plugin.network {
        vec![filter, tcp_proxy(&cluster)]
    } else {
        vec![connection_manager(&cluster, filter)]
    };
    made.before(upstream, &cluster, &filters)
}

/// The first is served, the second is refused, and the metrics have their labels.
fn one_in_one_out(made: Made, plugin: &Plugin, filter: Value) {
    let conduct = if plugin.network {
        Conduct::Echo
    } else {
        Conduct::Http
    };
    let upstream = Upstream::start(conduct);
    let made = around(made, plugin, filter, upstream.address);
    let envoy = Envoy::start(&made.bootstrap(), 1);
    let entry = envoy.listener("entry");
    if plugin.network {
        let mut first = knock(entry, "first");
        assert_eq!(fate(&mut first), Fate::Served);
        assert!(!rest(&mut knock(entry, "second")).starts_with(b"second"));
    } else {
        let first = http::ask(entry, "/");
        upstream.until_open(1);
        let second = http::get(entry, "/");
        assert_eq!(second.status, 503);
        assert_eq!(second.header("x-tidegate-reason"), Some("inflight_limit"));
        upstream.release();
        assert_eq!(http::answer(first).status, 200);
    }
    let rule = plugin.rule();
    let metrics = envoy.until_rule(&rule, "tidegate_rejected_total", 1.0);
    assert_eq!(metrics.rejected(&rule, "inflight_limit"), 1.0);
    assert_eq!(metrics.rule(&rule, "tidegate_admitted_total"), 1.0);
}

#[test]
fn every_plugin_of_istio_counts_and_refuses() {
    let mut seen = 0;
    for manifest in manifests("istio") {
        for object in [manifest.of("WasmPlugin"), manifest.of("TrafficExtension")].concat() {
            let plugin = Plugin::of_istio(object).one_at_a_time();
            let delivered = Discovered::first(&plugin);
            let made = Made::by_istio().patched(&manifest);
            one_in_one_out(made, &plugin, delivered.filter.clone());
            seen += 1;
        }
    }
    assert_eq!(seen, 8);
}

/// A client of a database that comes too many, and what it reads.
fn reads_when_refused(envoy: &Envoy, says: &[u8]) -> Vec<u8> {
    let entry = envoy.listener("entry");
    let mut first = knock(entry, "first");
    assert_eq!(fate(&mut first), Fate::Served);
    let mut second = connect(entry);
    second.write_all(says).expect("sent");
    rest(&mut second)
}

fn assert_fatal(answer: &[u8]) {
    let said = String::from_utf8_lossy(answer);
    assert!(
        said.starts_with('E') && said.contains("C53300") && said.contains(REFUSED),
        "{said:?}"
    );
}

#[test]
fn a_client_refused_in_istio_reads_the_words_of_its_database() {
    let mysql = "istio/mysql-sidecar.yaml";
    for file in [
        "istio/postgres-sidecar.yaml",
        "istio/postgres-gateway.yaml",
        mysql,
    ] {
        let upstream = Upstream::start(Conduct::Echo);
        let manifest = Manifest::read(file);
        let plugin = Plugin::of_istio(manifest.of("WasmPlugin")[0]).one_at_a_time();
        let delivered = Discovered::first(&plugin);
        let made = Made::by_istio().patched(&manifest);
        let made = around(made, &plugin, delivered.filter.clone(), upstream.address);
        let envoy = Envoy::start(&made.bootstrap(), 2);
        if file == mysql {
            let answer = reads_when_refused(&envoy, b"");
            assert_eq!(answer[4..13], *b"\xff\x10\x04#08004", "{file}");
        } else {
            assert_fatal(&reads_when_refused(&envoy, STARTUP));
        }
    }
}

/// The plugin for TCP of the TrafficExtensions.
fn sessions() -> Plugin {
    let manifest = Manifest::read("istio/traffic-extension.yaml");
    Plugin::of_istio(manifest.of("TrafficExtension")[1]).one_at_a_time()
}

/// A client that comes again until it is served, since each worker takes a change for itself.
fn until_served(entry: SocketAddr) -> TcpStream {
    until(|| {
        let mut stream = knock(entry, "again");
        let served = fate(&mut stream) == Fate::Served;
        served
            .then_some(stream)
            .ok_or_else(|| "it is refused".to_owned())
    })
}

#[test]
fn a_change_that_istio_delivers_keeps_the_count_of_what_is_open() {
    let upstream = Upstream::start(Conduct::Echo);
    let delivered = Discovered::first(&sessions());
    let filter = delivered.filter.clone();
    let made = around(Made::by_istio(), &sessions(), filter, upstream.address);
    let envoy = Envoy::start(&made.bootstrap(), 2);
    let entry = envoy.listener("entry");
    let mut first = knock(entry, "first");
    assert_eq!(fate(&mut first), Fate::Served);
    assert_eq!(fate(&mut knock(entry, "second")), Fate::Refused);
    delivered.put(&sessions().limit(&json!(2)));
    let _third = until_served(entry);
    assert_eq!(fate(&mut knock(entry, "fourth")), Fate::Refused);
    assert_eq!(upstream.seen().peak, 2);
}

#[test]
fn what_istio_delivers_wrong_lets_nobody_pass_at_first_and_changes_nothing_later() {
    let upstream = Upstream::start(Conduct::Echo);
    let delivered = Discovered::first(&sessions().limit(&json!(0)));
    let filter = delivered.filter.clone();
    let made = around(Made::by_istio(), &sessions(), filter, upstream.address);
    let envoy = Envoy::start(&made.bootstrap(), 1).complains();
    let entry = envoy.listener("entry");
    let refusals = || {
        let advice = "rules[0].limits.inflight: 0 is not a limit; leave it out for none";
        envoy.log().matches(advice).count()
    };
    assert_eq!(fate(&mut knock(entry, "first")), Fate::Refused);
    let at_first = refusals();
    assert!(at_first > 0, "{}", envoy.log());
    delivered.put(&sessions());
    let second = until_served(entry);
    delivered.put(&sessions().limit(&json!(0)));
    until(|| {
        (refusals() > at_first)
            .then_some(())
            .ok_or_else(|| envoy.log())
    });
    assert_eq!(fate(&mut knock(entry, "third")), Fate::Refused);
    drop(second);
    until_served(entry);
}

#[test]
fn the_plugin_of_envoy_gateway_counts_and_refuses() {
    let manifest = Manifest::read("gateway/http.yaml");
    let policy = manifest.of("EnvoyExtensionPolicy")[0];
    let operations = manifest.operations();
    let [("Listener", "shop/eg/http", operation)] = operations[..] else {
        panic!("{operations:?}");
    };
    // It finds the filter by the name that Envoy Gateway gives it.
    let name = format!("envoy.filters.http.wasm/{}", gateway_name(policy));
    let path = format!("..http_filters[?(@.name=='{name}')].typed_config.config");
    assert_eq!(
        (text(&operation["op"]), text(&operation["jsonPath"])),
        ("add", path.as_str())
    );
    let plugin = Plugin::of_gateway(policy).with(text(&operation["path"]), &operation["value"]);
    let plugin = plugin.one_at_a_time();
    one_in_one_out(Made::by_gateway(), &plugin, plugin.filter());
}

/// What the patches for PostgreSQL make of Envoy Gateway's configuration, before an upstream.
fn patched_gateway(upstream: SocketAddr) -> Made {
    let manifest = Manifest::read("gateway/postgres.yaml");
    let mut filters = vec![tcp_proxy("upstream")];
    let mut made = Made::by_gateway();
    for (kind, name, operation) in manifest.operations() {
        assert_eq!(operation["op"], "add");
        let value = operation["value"].clone();
        match (kind, text(&operation["path"])) {
            ("Listener", "/filter_chains/0/filters/0") => filters.insert(0, here(value)),
            ("Listener", "") => made = made.listener(value),
            ("Cluster", "") => made = made.cluster(value),
            other => panic!("{name}: {other:?}"),
        }
    }
    made.before(upstream, "upstream", &filters)
}

/// The filter with the module of this checkout, and with one place.
fn here(mut filter: Value) -> Value {
    let config = &mut filter["typed_config"]["config"];
    let file = config
        .pointer_mut("/vm_config/code/local/filename")
        .expect("a file");
    // It is where the other manifest mounts the image, in which it has one name always.
    let proxy = Manifest::read("gateway/proxy.yaml");
    let deployment =
        &proxy.of("EnvoyProxy")[0]["spec"]["provider"]["kubernetes"]["envoyDeployment"];
    let mount = &deployment["container"]["volumeMounts"][0];
    let volume = &deployment["pod"]["volumes"][0];
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(
        text(file),
        format!("{}/plugin.wasm", text(&mount["mountPath"]))
    );
    assert!(text(&volume["image"]["reference"]).contains("/tidegate-inspect:"));
    *file = json!(module("tidegate-inspect"));
    let value = config.pointer_mut("/configuration/value").expect("a text");
    let mut rules = documents(text(value)).remove(0);
    enforce(&mut rules);
    *value = json!(rules.to_string());
    filter
}

#[test]
fn a_client_refused_in_envoy_gateway_reads_the_words_of_its_database() {
    let upstream = Upstream::start(Conduct::Echo);
    let envoy = Envoy::start(&patched_gateway(upstream.address).bootstrap(), 2);
    assert_fatal(&reads_when_refused(&envoy, STARTUP));
    let metrics = envoy.until_rule("orders-db", "tidegate_rejected_total", 1.0);
    assert_eq!(metrics.rejected("orders-db", "inflight_limit"), 1.0);
}

#[test]
fn envoy_refuses_a_patch_with_a_typo() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut all = vec![patched_gateway(nobody)];
    for file in ["postgres-sidecar", "postgres-gateway", "mysql-sidecar"] {
        let manifest = Manifest::read(&format!("istio/{file}.yaml"));
        all.push(Made::by_istio().patched(&manifest));
    }
    for made in all {
        let bootstrap = made.bootstrap();
        let (accepted, said) = validate(&bootstrap);
        assert!(accepted, "{said}");
        for (right, wrong) in [
            ("\"internal_listener\"", "\"internal_listner\""),
            ("network.echo.v3.Echo", "network.echo.v3.Ecko"),
            ("\"server_listener_name\"", "\"listener_name\""),
            ("\"max_connections\"", "\"max_connection\""),
            ("\"stats_tags\"", "\"stat_tags\""),
        ] {
            assert!(bootstrap.text.contains(right), "{right}");
            let text = bootstrap.text.replace(right, wrong);
            let (accepted, said) = validate(&Bootstrap { text });
            assert!(!accepted, "{wrong}: {said}");
        }
    }
}
