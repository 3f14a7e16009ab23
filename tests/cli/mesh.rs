//! `check` on the manifests for Istio and Envoy Gateway.

use std::path::{Path, PathBuf};

use super::{check::found, files, root, run, run_with};

fn manifest(name: &str) -> String {
    std::fs::read_to_string(root().join("envoy").join(name)).expect(name)
}

#[test]
fn every_manifest_to_copy_is_without_findings() {
    let mut checked = Vec::new();
    for path in [files("envoy/istio", "yaml"), files("envoy/gateway", "yaml")].concat() {
        let name = path
            .strip_prefix(root())
            .expect("a part")
            .display()
            .to_string();
        let ran = run(&["check", "--strict", &name]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
        checked.push(ran.out.trim_end().to_owned());
    }
    assert_eq!(
        checked,
        [
            "envoy/istio/http-gateway.yaml: ok (1 filter, 1 rule)",
            "envoy/istio/http-sidecar.yaml: ok (1 filter, 1 rule)",
            "envoy/istio/metrics.yaml: ok (labels of metrics)",
            "envoy/istio/mysql-sidecar.yaml: ok (1 filter, 1 rule)",
            "envoy/istio/postgres-gateway.yaml: ok (1 filter, 1 rule)",
            "envoy/istio/postgres-sidecar.yaml: ok (1 filter, 1 rule)",
            "envoy/istio/traffic-extension.yaml: ok (2 filters, 2 rules)",
            "envoy/istio/waypoint.yaml: ok (1 filter, 1 rule)",
            "envoy/gateway/http.yaml: ok (1 filter, 1 rule)",
            "envoy/gateway/postgres.yaml: ok (1 filter, 1 rule)",
            "envoy/gateway/proxy.yaml: ok (labels of metrics)",
        ]
    );
}

#[test]
fn a_manifest_refuses_nobody_until_its_mode_is_changed() {
    for path in [files("envoy/istio", "yaml"), files("envoy/gateway", "yaml")].concat() {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("mode: enforce"), "{}", path.display());
        assert!(
            !text.contains("\"mode\": \"enforce\""),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_slip_in_a_rule_of_a_traffic_extension_is_shown_at_its_place() {
    let text = manifest("istio/traffic-extension.yaml").replace("inflight: 50", "inflght: 50");
    let line = text
        .lines()
        .position(|line| line.contains("inflght"))
        .expect("a line")
        + 1;
    assert_eq!(
        found(&text),
        [format!(
            "<stdin>:{line}:18: error: rules[0].limits: unknown field `inflght`; did you mean \
             `inflight`?"
        )]
    );
}

#[test]
fn a_cluster_for_refusals_that_no_patch_adds_is_an_error() {
    for name in ["istio/postgres-sidecar.yaml", "istio/mysql-sidecar.yaml"] {
        let text = manifest(name).replace("cluster: tidegate-refuse", "cluster: tidegate-refused");
        let found = found(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("rules[0].reject.cluster: no patch in this file adds a cluster"),
            "{found:?}"
        );
    }
    let text = manifest("gateway/postgres.yaml");
    let found = found(&text.replace("\"cluster\": \"tidegate-refuse\"", "\"cluster\": \"other\""));
    assert!(found[0].contains("adds a cluster \"other\""), "{found:?}");
}

#[test]
fn a_plugin_whose_refusals_are_answered_by_another_file_is_warned_about() {
    let text = manifest("istio/postgres-sidecar.yaml");
    let (plugin, _) = text.split_once("---\n").expect("two objects");
    let checked = run_with(&["check", "-"], plugin);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert_eq!(checked.out, "<stdin>: ok (1 filter, 1 rule), 1 warning\n");
    assert!(
        checked.err.contains("no patch in this file"),
        "{}",
        checked.err
    );
}

#[test]
fn an_image_of_the_build_that_reads_no_protocols_can_not_answer_in_them() {
    let text = manifest("istio/postgres-gateway.yaml");
    for image in ["tidegate:0.1.0", "tidegate@sha256:0123"] {
        let found = found(&text.replace("tidegate-inspect:0.1.0", image));
        assert!(
            found[0].contains("load tidegate-inspect.wasm or write `tcp: close`"),
            "{found:?}"
        );
    }
}

/// What is warned about, to the strict.
fn warned(text: &str) -> String {
    let checked = run_with(&["check", "--strict", "-"], text);
    assert_eq!(checked.code, 1, "{}{}", checked.out, checked.err);
    // It is broken into lines as wide as the terminal.
    checked.err.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn labels_that_are_left_out_are_missed() {
    let values = manifest("istio/metrics.yaml");
    let said = warned(&values.replace("reason, ", ""));
    assert!(
        said.contains("extraStatTags lacks reason: without it"),
        "{said}"
    );
    let said = warned("meshConfig: {accessLogFile: /dev/stdout}\n");
    assert!(
        said.contains("extraStatTags lacks rule, reason, kind, version, commit"),
        "{said}"
    );
    let operator = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n\
                    spec: {meshConfig: {defaultConfig: {extraStatTags: [rule, kind]}}}\n";
    let said = warned(operator);
    assert!(said.contains("extraStatTags lacks reason"), "{said}");

    let proxy = manifest("gateway/proxy.yaml");
    let said = warned(&proxy.replace("tag_name: kind", "tag_name: kinds"));
    assert!(
        said.contains("stats_config.stats_tags lacks kind"),
        "{said}"
    );
    // Envoy would take this one, and say nothing.
    let said = warned(&proxy.replace("(commit=", "(comit="));
    assert!(
        said.contains("stats_config.stats_tags lacks commit"),
        "{said}"
    );
    let said = warned(&proxy.replace("    type: Merge\n", ""));
    assert!(said.contains("write `type: Merge`"), "{said}");
    let said = warned(&proxy.replace("stats_tags:\n", "stats_tags: [\n"));
    assert!(
        said.contains("spec.bootstrap.value: it can't be read"),
        "{said}"
    );
}

/// All files of a folder and the folders in it.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => all_files(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn the_labels_are_the_same_everywhere() {
    let all = ["rule", "reason", "kind", "version", "commit"];
    let lines = all.map(|tag| format!(r"- {{tag_name: {tag}, regex: '({tag}=\.=(.*?);\.;)'}}"));
    let folders = ["envoy", "docs"].map(|folder| all_files(&root().join(folder)));
    let mut seen = 0;
    for path in folders.concat() {
        let text = std::fs::read_to_string(&path).expect("text");
        let tags = text.lines().map(str::trim);
        let tags: Vec<_> = tags.filter(|line| line.contains("tag_name")).collect();
        if !tags.is_empty() {
            assert_eq!(tags, lines, "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 8, "five bootstraps, compose, Envoy Gateway, a page");
    let istio = manifest("istio/metrics.yaml");
    let list = format!("extraStatTags: [{}]", all.join(", "));
    assert_eq!(istio.matches(&list).count(), 1);
    let annotation = format!("extraStatTags: {}\n", all.join(","));
    assert_eq!(istio.matches(&annotation).count(), 1);
}
