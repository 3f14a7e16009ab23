//! `tidegatectl check`: what is wrong with a configuration, wherever it is written.

mod across;
mod bootstrap;
mod filter;
mod kubernetes;
mod labels;
mod plugin;
mod traffic;
mod walk;

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use tidegate::config::{Build, Policy};

use crate::{
    report::{self, Finding},
    source::{self, Node},
};
use filter::{Filter, Written};
use plugin::Places;

/// What was found in a file.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) findings: Vec<Finding>,
    /// Whether it is a plugin configuration by itself, in no filter.
    plain: bool,
    /// Whether it gives the metrics their labels.
    labels: bool,
    filters: usize,
    rules: usize,
}

/// A filter whose configuration is right.
struct Configured<'n> {
    filter: Filter<'n>,
    policy: Policy,
    places: Places,
}

/// Checks the files. 0: nothing is wrong; 1: something is; 2: a file could not be read.
pub fn run(files: &[impl AsRef<Path>], strict: bool) -> ExitCode {
    let mut exit = 0;
    for file in files {
        let name = match file.as_ref().to_string_lossy() {
            name if name == "-" => "<stdin>".into(),
            name => name,
        };
        match read(file.as_ref()) {
            Ok(bytes) => {
                if !check_file(&name, &bytes, strict) {
                    exit = exit.max(1);
                }
            }
            Err(error) => {
                report::tell(&format!("cannot read {name}: {error}"));
                exit = 2;
            }
        }
    }
    ExitCode::from(exit)
}

/// The bytes of a file, or of stdin for `-`.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from(source::MOST_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(file)?;
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() > source::MOST_BYTES {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(bytes)
}

/// Checks a file, and tells the result. Whether it may be used.
fn check_file(name: &str, bytes: &[u8], strict: bool) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut checked = match std::str::from_utf8(bytes) {
        Ok(text) => check_text(text),
        Err(error) => {
            let at = error.valid_up_to();
            Checked {
                findings: vec![Finding::error("it is no UTF-8 text here", at..at + 1)],
                ..Checked::default()
            }
        }
    };
    report::show(name, &text, &mut checked.findings);
    let errors = checked.findings.iter().filter(|one| one.is_error()).count();
    let warnings = checked.findings.len() - errors;
    let warned = count(warnings, "warning");
    if errors > 0 || strict && warnings > 0 {
        let sum = match (errors, warnings) {
            (_, 0) => count(errors, "error"),
            (0, _) => format!("{warned} (--strict)"),
            _ => format!("{}, {warned}", count(errors, "error")),
        };
        report::tell(&format!("{name}: {sum}"));
        return false;
    }
    let mut sum = count(checked.rules, "rule");
    if checked.labels && checked.filters == 0 {
        sum = "labels of metrics".to_owned();
    } else if !checked.plain {
        sum = format!("{}, {sum}", count(checked.filters, "filter"));
    }
    let warned = if warnings > 0 {
        format!(", {warned}")
    } else {
        String::new()
    };
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    // Nobody is left to be told when this fails.
    let _ = writeln!(
        anstream::stdout(),
        "{name}: {green}ok{green:#} ({sum}){warned}"
    );
    true
}

/// The configuration of a plugin that a file holds; where it is wrong, that is shown.
pub fn configuration(file: &Path) -> io::Result<Option<Policy>> {
    let bytes = read(file)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut findings = Vec::new();
    let policy = policy(&text, &mut findings);
    let right = !findings.iter().any(Finding::is_error);
    report::show(&file.to_string_lossy(), &text, &mut findings);
    Ok(policy.filter(|_| right))
}

fn policy(text: &str, findings: &mut Vec<Finding>) -> Option<Policy> {
    let parsed = match source::read(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let what = format!("it can't be read: {}", error.what);
            findings.push(Finding::error(what, error.at..error.at + 1));
            return None;
        }
    };
    for (name, place) in parsed.twice {
        let what = format!("the field `{name}` is given twice; remove one of the two");
        findings.push(Finding::error(what, place));
    }
    let build = Build { inspect: true };
    let (written, place) = match parsed.documents.as_slice() {
        [] => (Written::Nothing, 0..0),
        [document] if matches!(Document::of(document), Document::Plugin) => {
            (Written::Tree(document), document.span.clone())
        }
        [document, ..] => {
            let what = "it is no plugin configuration alone; write what the filter holds under \
                        `configuration` into a file of its own";
            findings.push(Finding::error(what, document.span.clone()));
            return None;
        }
    };
    plugin::check(text, &written, place, build, findings).0
}

/// `2 rules`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Checks a text, whatever it is.
pub(crate) fn check_text(text: &str) -> Checked {
    let mut checked = Checked::default();
    let parsed = match source::read(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let what = format!("it can't be read: {}", error.what);
            let place = error.at..error.at + 1;
            checked.findings.push(Finding::error(what, place));
            return checked;
        }
    };
    for (name, place) in parsed.twice {
        let what = format!("the field `{name}` is given twice; remove one of the two");
        checked.findings.push(Finding::error(what, place));
    }
    if parsed.documents.is_empty() {
        checked.plain = true;
        plugin_alone(text, &Written::Nothing, 0..0, &mut checked);
        return checked;
    }

    let mut filters = Vec::new();
    let mut elsewhere = Vec::new();
    let mut manifests = Vec::new();
    let mut added = Vec::new();
    for document in &parsed.documents {
        match Document::of(document) {
            Document::Plugin => {
                checked.plain = parsed.documents.len() == 1;
                checked.filters += 1;
                let place = document.span.clone();
                plugin_alone(text, &Written::Tree(document), place, &mut checked);
            }
            Document::Envoy => {
                let found = filters.len();
                walk::filters(document, &mut filters, &mut checked.findings);
                let mine = configure(text, filters.drain(found..), &mut checked);
                bootstrap::check(document, &mine, &mut checked.findings);
                across::check(&mine, &mut checked.findings);
                elsewhere.push(document);
            }
            Document::Kubernetes => {
                for object in kubernetes::objects(document) {
                    let found = filters.len();
                    kubernetes::filters(object, &mut filters, &mut checked.findings);
                    manifests.extend(configure(text, filters.drain(found..), &mut checked));
                    kubernetes::clusters(object, &mut added);
                    checked.labels |= labels::check(object, &mut checked.findings);
                }
                elsewhere.push(document);
            }
            Document::Values => {
                checked.labels |= labels::check(document, &mut checked.findings);
            }
        }
    }
    kubernetes::refusals(&manifests, &added, &mut checked.findings);
    if checked.filters == 0
        && !checked.labels
        && let Some(document) = elsewhere.first()
    {
        let what = "no tidegate filter found: no wasm filter here has \"tidegate\" in its name, \
                    root_id, vm_id or module; write it into one of them";
        let place = document.span.clone();
        checked.findings.push(Finding::error(what, place));
    }
    checked
}

/// What a document is.
enum Document {
    Plugin,
    Envoy,
    Kubernetes,
    /// Of a chart, for Istio.
    Values,
}

impl Document {
    fn of(document: &Node) -> Self {
        const ENVOY: [&str; 19] = [
            "@type",
            "admin",
            "bootstrap_extensions",
            "clusters",
            "configs",
            "dynamic_resources",
            "filter_chains",
            "filters",
            "http_filters",
            "layered_runtime",
            "listeners",
            "node",
            "resources",
            "static_resources",
            "stats_config",
            "stats_sinks",
            "typed_config",
            "version_info",
            "watchdogs",
        ];
        if document.get("apiVersion").is_some() && document.get("kind").is_some() {
            Self::Kubernetes
        } else if document.get("meshConfig").is_some() {
            Self::Values
        } else if ENVOY.iter().any(|name| document.proto(name).is_some()) {
            Self::Envoy
        } else {
            Self::Plugin
        }
    }
}

/// Checks a plugin configuration that stands by itself.
fn plugin_alone(
    text: &str,
    written: &Written<'_>,
    place: std::ops::Range<usize>,
    checked: &mut Checked,
) {
    // No module is named, so the one that can more.
    let build = Build { inspect: true };
    let (policy, _) = plugin::check(text, written, place, build, &mut checked.findings);
    checked.rules += policy.map_or(0, |policy| policy.rules().len());
}

/// Checks the configurations of filters; gives the right ones.
fn configure<'n>(
    text: &str,
    filters: impl Iterator<Item = Filter<'n>>,
    checked: &mut Checked,
) -> Vec<Configured<'n>> {
    let mut configured = Vec::new();
    for filter in filters {
        checked.filters += 1;
        let findings = &mut checked.findings;
        filter.check(findings);
        let place = filter.place.clone();
        let (policy, places) = plugin::check(text, &filter.written, place, filter.build, findings);
        let Some(policy) = policy else { continue };
        checked.rules += policy.rules().len();
        traffic::check(&filter, &policy, &places, findings);
        configured.push(Configured {
            filter,
            policy,
            places,
        });
    }
    configured
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    /// What is written wrong most easily: one byte of a file.
    fn damaged(file: &str) -> impl Strategy<Value = String> {
        let bytes = file.as_bytes().to_vec();
        vec((any::<Index>(), any::<u8>()), 1..6).prop_map(move |damage| {
            let mut bytes = bytes.clone();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Checking ends, and each finding can be shown.
    fn assert_sound(text: &str) {
        let mut checked = check_text(text);
        for finding in &checked.findings {
            assert!(!finding.what.is_empty());
        }
        report::render("file", text, &mut checked.findings, false);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_is_checked_without_panic(text in ".*|[-\\[{}\\],:|>&*'\"#a \n]{0,60}") {
            assert_sound(&text);
        }

        #[test]
        fn a_damaged_bootstrap_is_checked_without_panic(
            text in damaged(include_str!("../../../../tests/cli/data/bad.yaml")),
        ) {
            assert_sound(&text);
        }

        #[test]
        fn a_damaged_manifest_is_checked_without_panic(
            text in damaged(include_str!("../../../../tests/cli/data/istio-filter.yaml")),
        ) {
            assert_sound(&text);
        }

        #[test]
        fn damaged_listeners_are_checked_without_panic(
            text in damaged(include_str!("../../../../tests/cli/data/lds.json")),
        ) {
            assert_sound(&text);
        }
    }
}
