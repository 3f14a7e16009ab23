//! What the README and the documentation tell people to write and to type, and what they say of
//! the configuration, the metrics and the events.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tidegate::{
    engine::{Fault, Reason, Rejected, Timestamp},
    event::{ByReason, Caller, Event, Hundredths, Rfc3339, StartedRule, Tenths},
};

use crate::{
    pages::{self, Block, Metric, Page, Table, codes, names},
    root, run, run_with,
};

const MARK: &str = "tidegate_event ";

/// The blocks of all pages in a language.
fn blocks(language: &str) -> Vec<Block> {
    let pages = Page::all();
    let blocks = pages.iter().flat_map(Page::blocks);
    blocks.filter(|block| block.language == language).collect()
}

#[test]
fn every_snippet_is_of_a_kind_that_is_checked() {
    for page in Page::all() {
        for block in page.blocks() {
            let known = match block.language.as_str() {
                // Parts of Envoy's configuration, which the real Envoy is asked about.
                "yaml" => block.about.is_empty() || block.about.starts_with("envoy/"),
                "json" | "sh" | "text" => block.about.is_empty(),
                _ => false,
            };
            assert!(
                known,
                "{}: `{} {}`",
                block.place, block.language, block.about
            );
        }
    }
}

#[test]
fn every_plugin_configuration_is_right() {
    let json = blocks("json").into_iter();
    let json = json.filter(|block| !block.text.starts_with(MARK));
    let all = blocks("yaml").into_iter().chain(json);
    let mut count = 0;
    for block in all.filter(|block| block.about.is_empty()) {
        let ran = run_with(&["check", "--strict", "-"], &block.text);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", block.place);
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn every_event_line_is_one_that_explain_reads_and_has_the_fields_of_its_kind() {
    let tables = Page::read("docs/metrics-and-events.md").tables();
    let mut count = 0;
    for block in blocks("json") {
        if !block.text.starts_with(MARK) {
            continue;
        }
        for line in block.text.lines() {
            let ran = run_with(&["explain", "-"], line);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", block.place);
            // It is lenient, and would leave out what it does not know.
            let json: Value = serde_json::from_str(&line[MARK.len()..]).expect("JSON");
            let name = json["event"].as_str().expect("a name");
            let told = written_down(&tables, name);
            assert_eq!(fields(line), told, "{}: {name}", block.place);
            for caller in callers(line) {
                assert!(ran.out.contains(&caller), "{}: {}", block.place, ran.out);
            }
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

/// The keys of the callers in a line.
fn callers(line: &str) -> Vec<String> {
    let json = line.strip_prefix(MARK).expect("its mark");
    let event: Value = serde_json::from_str(json).expect(line);
    let callers = event["callers"].as_array().into_iter().flatten();
    let keys = callers.map(|caller| caller["key"].as_str().expect("a key").to_owned());
    keys.collect()
}

/// Programs that people have; those of the repository are asked what they understand.
const PROGRAMS: [&str; 3] = ["curl", "docker", "grep"];

#[test]
fn every_command_in_a_block_can_be_typed() {
    for block in blocks("sh") {
        let place = &block.place;
        assert!(shell_takes(&block.text), "{place}: sh does not take it");
        for line in block.text.lines() {
            let line = line.split(" #").next().unwrap_or_default();
            for file in line
                .split_whitespace()
                .filter(|word| word.starts_with("envoy/"))
            {
                assert!(root().join(file).exists(), "{place}: {file}");
            }
            for command in line.split(" | ") {
                let mut words = command.split_whitespace();
                match words.next() {
                    // The test of xtask parses these.
                    Some("cargo") if words.clone().next() == Some("xtask") => {}
                    Some("cargo") => {
                        let own = ["run", "--bin", "tidegatectl", "--"];
                        let first: Vec<_> = words.by_ref().take(own.len()).collect();
                        assert_eq!(first, own, "{place}");
                        assert_understood(&words.collect::<Vec<_>>(), place);
                    }
                    Some("tidegatectl") => assert_understood(&words.collect::<Vec<_>>(), place),
                    Some(program) => assert!(PROGRAMS.contains(&program), "{place}: {program}"),
                    None => {}
                }
            }
        }
    }
}

/// The companion knows the command and its options.
fn assert_understood(arguments: &[&str], place: &str) {
    let help = [arguments, &["--help"]].concat();
    let ran = run(&help);
    assert_eq!(ran.code, 0, "{place}: {arguments:?}: {}", ran.err);
}

fn shell_takes(script: &str) -> bool {
    let mut shell = Command::new("sh")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = shell.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("sent");
    drop(stdin);
    shell.wait().expect("it ends").success()
}

#[test]
fn every_command_of_the_companion_exists() {
    let mut count = 0;
    for page in Page::all() {
        let prose = page.prose();
        for code in codes(&prose.replace("\n", " ")) {
            if let Some((_, arguments)) = code.split_once("--bin tidegatectl -- ") {
                let words: Vec<_> = arguments.split_whitespace().collect();
                assert_understood(&words, &page.path.display().to_string());
                count += 1;
            }
        }
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn every_link_leads_somewhere() {
    let pages = Page::all();
    for page in &pages {
        let here = page.path.display();
        for link in page.links() {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = match link.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor)),
                None => (link.as_str(), None),
            };
            let folder = page.path.parent().unwrap_or(Path::new(""));
            let target = match file {
                "" => root().join(&page.path),
                _ => root().join(folder).join(file),
            };
            let target = target.canonicalize();
            let target = target.unwrap_or_else(|error| panic!("{here}: {link}: {error}"));
            let Some(anchor) = anchor else { continue };
            let there = pages.iter().find(|other| {
                let other = root().join(&other.path).canonicalize();
                other.is_ok_and(|other| other == target)
            });
            let there = there.unwrap_or_else(|| panic!("{here}: {link} is no page"));
            assert!(
                there.anchors().iter().any(|known| known == anchor),
                "{here}: {link} is none of {:?}",
                there.anchors()
            );
        }
    }
}

/// The folders whose files are named in the text.
const FOLDERS: [&str; 9] = [
    ".ci/", ".github/", "benches/", "docs/", "envoy/", "fuzz/", "src/", "tests/", "xtask/",
];

#[test]
fn every_file_that_is_named_is_there() {
    let mut count = 0;
    for page in Page::all() {
        let prose = page.prose().replace('\n', " ");
        let words = codes(&prose).into_iter().flat_map(str::split_whitespace);
        for file in words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
            let file = file.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(
                root().join(file).exists(),
                "{}: {file}",
                page.path.display()
            );
            count += 1;
        }
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn the_readme_leads_to_every_page_of_the_documentation() {
    let links = Page::read("README.md").links();
    for page in Page::all() {
        let path = page.path.to_str().expect("UTF-8");
        let found = links
            .iter()
            .any(|link| link.split('#').next() == Some(path));
        assert!(found || !path.starts_with("docs/"), "{path}");
    }
}

#[test]
fn every_picture_is_well_formed_and_can_be_read_in_the_dark() {
    let pictures = crate::files("docs", "svg");
    assert!(pictures.len() >= 2);
    for path in pictures {
        let text = std::fs::read_to_string(&path).expect("a picture");
        let picture = roxmltree::Document::parse(&text);
        let picture = picture.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let child = |name: &str| {
            let mut children = picture.root_element().children();
            children.find(|child| child.has_tag_name(("http://www.w3.org/2000/svg", name)))
        };
        assert!(child("title").is_some(), "{}", path.display());
        let style = child("style").and_then(|style| style.text());
        let dark = style.is_some_and(|style| style.contains("prefers-color-scheme:"));
        assert!(dark, "{}", path.display());
    }
}

#[test]
fn the_example_of_everything_has_every_field() {
    fn fields(schema: &Value, found: &mut BTreeSet<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            found.insert(name.clone());
            fields(field, found);
        }
        let variants = schema["anyOf"].as_array().into_iter().flatten();
        for inner in variants.chain(schema.get("items")) {
            fields(inner, found);
        }
    }
    let mut found = BTreeSet::new();
    fields(&tidegate::config::json_schema(), &mut found);
    assert!(found.len() >= 40, "{found:?}");
    let blocks = Page::read("docs/configuration.md").blocks();
    let example = blocks
        .iter()
        .find(|block| block.heading == "Everything there is");
    let example = &example.expect("the example").text;
    for field in found {
        let words = pages::names(example, &field);
        assert!(words.contains(&field.as_str()), "{field} is not in it");
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let mut known: BTreeSet<String> = Metric::all()
        .iter()
        .flat_map(|metric| {
            [
                vec![(metric.name.clone(), BTreeSet::new())],
                metric.series(),
            ]
            .concat()
        })
        .map(|(name, _)| name)
        .collect();
    known.insert(MARK.trim().to_owned());
    // The beginning of them all, and what stands in an access log.
    known.insert("tidegate_".to_owned());
    known.extend(Reason::ALL.map(|reason| format!("tidegate_{}", reason.label())));
    for page in Page::all() {
        let blocks = page.blocks().into_iter().map(|block| block.text);
        for text in blocks.chain([page.prose()]) {
            for name in names(&text, "tidegate_") {
                assert!(known.contains(name), "{}: {name}", page.path.display());
            }
        }
    }
}

#[test]
fn every_reason_and_every_kind_of_fault_is_explained() {
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words
    };
    let reasons = Reason::ALL.map(|reason| reason.label().to_owned());
    assert_eq!(sorted(pages::values("reason")), sorted(reasons.to_vec()));
    let kinds = Fault::ALL.map(|fault| fault.label().to_owned());
    assert_eq!(sorted(pages::values("kind")), sorted(kinds.to_vec()));
}

/// One event of each kind.
fn events() -> Vec<Event<'static>> {
    let at = || Rfc3339(Timestamp::from_millis(1_767_970_802_100));
    let (rule, inflight, inflight_limit) = ("orders-db", 90, 90);
    let (rate_per_s, baseline_per_s) = (Tenths(412.0), Tenths(21.3));
    let rules = vec![StartedRule {
        name: rule,
        mode: "enforce",
    }];
    let callers = vec![Caller {
        key: "10.0.0.7".to_owned(),
        rate_per_s,
        baseline_per_s,
        share: Hundredths(0.95),
    }];
    let mut rejected = Rejected::default();
    rejected[Reason::HotCaller.index()] = 15_100;
    rejected[Reason::HoldTimeout.index()] = 110;
    vec![
        Event::started(at().0, rules),
        Event::SurgeStarted {
            rule,
            at: at(),
            rate_per_s,
            baseline_per_s,
            ratio: Tenths(19.3),
            inflight,
            inflight_limit,
            signal: "arrivals",
            spread: "one_caller",
            callers,
        },
        Event::SurgeEnded {
            rule,
            at: at(),
            duration_s: Tenths(42.1),
            peak_per_s: Tenths(530.4),
            baseline_per_s,
            rejected: 15_210,
            rejected_by_reason: ByReason(rejected),
            held: 320,
        },
        Event::UpstreamRefusing {
            rule,
            at: at(),
            refused: 12,
            inflight,
        },
        Event::LimitLowered {
            rule,
            at: at(),
            inflight_limit,
            inflight,
        },
        Event::LimitRaised {
            rule,
            at: at(),
            inflight_limit,
            inflight,
        },
        Event::DriftWarning {
            rule,
            at: at(),
            rate_per_s,
            baseline_per_s,
        },
        Event::Fault {
            rule,
            at: at(),
            kind: Fault::WorkerReaped.label(),
            count: 1,
        },
    ]
}

/// The place of an event among [`events`]; a new kind of event does not compile until it is there.
fn place(event: &Event<'_>) -> usize {
    match event {
        Event::Started { .. } => 0,
        Event::SurgeStarted { .. } => 1,
        Event::SurgeEnded { .. } => 2,
        Event::UpstreamRefusing { .. } => 3,
        Event::LimitLowered { .. } => 4,
        Event::LimitRaised { .. } => 5,
        Event::DriftWarning { .. } => 6,
        Event::Fault { .. } => 7,
    }
}

/// The fields of a line, and their types, as the page writes them.
fn fields(line: &str) -> BTreeMap<String, &'static str> {
    fn collect(value: &Value, path: &str, fields: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            // Its fields are the values of a label.
            Value::Object(_) if path == "rejected_by_reason" => {
                fields.insert(format!("{path}.REASON"), "number");
                return;
            }
            Value::Object(object) => {
                for (name, value) in object {
                    let dot = if path.is_empty() { "" } else { "." };
                    collect(value, &format!("{path}{dot}{name}"), fields);
                }
                return;
            }
            Value::Array(list) => {
                let path = format!("{path}[]");
                return list.iter().for_each(|value| collect(value, &path, fields));
            }
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) | Value::Null => "of no type that the page knows",
        };
        fields.insert(path.to_owned(), kind);
    }
    let json = line.trim().strip_prefix(MARK).expect("its mark");
    let mut fields = BTreeMap::new();
    collect(&serde_json::from_str(json).expect(line), "", &mut fields);
    fields
}

/// The fields of an event and their types, by its table.
fn written_down<'t>(tables: &'t [Table], name: &str) -> BTreeMap<String, &'t str> {
    let heading = format!("`{name}`");
    let table = tables.iter().find(|table| table.heading == heading);
    let rows = table.expect(name).rows.iter();
    rows.map(|row| (codes(&row[0])[0].to_owned(), row[1].as_str()))
        .collect()
}

#[test]
fn every_event_has_exactly_the_fields_that_are_written_down() {
    let page = Page::read("docs/metrics-and-events.md");
    let (tables, blocks) = (page.tables(), page.blocks());
    let mut written = BTreeSet::new();
    for table in tables.iter().filter(|table| table.header[0] == "field") {
        written.insert(codes(&table.heading)[0].to_owned());
    }
    for (index, event) in events().iter().enumerate() {
        assert_eq!(place(event), index);
        let line = event.line();
        let real = fields(&line);
        let json: Value = serde_json::from_str(&line[MARK.len()..]).expect("JSON");
        let name = json["event"].as_str().expect("a name");
        assert!(written.remove(name), "{name} is not on the page");
        let heading = format!("`{name}`");
        assert_eq!(written_down(&tables, name), real, "the table of {name}");
        let example = blocks.iter().find(|block| block.heading == heading);
        assert_eq!(
            fields(&example.expect(name).text),
            real,
            "the example of {name}"
        );
    }
    assert!(written.is_empty(), "there are no such events: {written:?}");
}

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let rules = root().join("envoy/prometheus/tidegate.rules.yml");
    let Ok(rules) = std::fs::read_to_string(rules) else {
        let skipped = "\nSKIPPED: every_alert_has_its_section: there are no alerts yet\n";
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        return;
    };
    let lines = rules
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    let alerts: BTreeSet<_> = lines
        .filter_map(|line| line.strip_prefix("alert:"))
        .map(|name| name.trim())
        .collect();
    let page = Page::read("docs/operating.md");
    let headings = page.headings().into_iter();
    let sections: BTreeSet<_> = headings
        .map(|(_, text)| text)
        .filter(|text| text.starts_with("Tidegate"))
        .collect();
    assert_eq!(alerts, sections);
}
