//! The dashboard for Grafana, and what mounts it.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    harness::places::repository,
    promql::{ALL, Expression},
};

/// What is asked at three in the morning, in that order.
const QUESTIONS: [&str; 6] = [
    "Is it surging?",
    "Who makes it?",
    "What is shed?",
    "Is the database safe?",
    "Is it ending?",
    "Is tidegate itself well?",
];

/// The units that are used, by Grafana's names.
const UNITS: [&str; 7] = [
    "cps",
    "ms",
    "none",
    "percent",
    "percentunit",
    "short",
    "suffix:×",
];

/// The names of the fields that are used, as Grafana has them: it ignores any other in silence.
/// Looked up in the types of grafana-foundation-sdk 10.1.
const FIELDS: &str = "allValue annotations calcs collapsed color colorMode content current custom dash \
    datasource decimals defaults definition description displayMode editable excludeByName expr \
    fieldConfig fields fill fillOpacity fixedColor format from graphMode graphTooltip gridPos group h id \
    includeAll index indexByName instant label legend legendFormat lineStyle lineWidth links list \
    mappings matcher max mergeValues min mode multi name options overrides panels placement properties \
    query reduceOptions refId refresh renameByName rowHeight schemaVersion showHeader showLegend \
    showPoints showValue sort spanNulls stacking steps tags targets templating text textMode thresholds \
    thresholdsStyle time timezone title to tooltip transformations type uid unit value values version w \
    x y";

/// The words that some of them hold.
const WORDS: [(&str, &[&str]); 14] = [
    ("calcs", &["lastNotNull"]),
    (
        "color",
        &["blue", "green", "orange", "red", "text", "yellow"],
    ),
    ("colorMode", &["background"]),
    ("displayMode", &["list"]),
    ("fill", &["dash"]),
    ("fixedColor", &["red"]),
    ("format", &["table"]),
    ("graphMode", &["none"]),
    (
        "mode",
        &[
            "absolute",
            "fixed",
            "line",
            "markdown",
            "multi",
            "normal",
            "single",
            "thresholds",
        ],
    ),
    ("placement", &["bottom"]),
    ("showPoints", &["never"]),
    ("showValue", &["auto"]),
    ("textMode", &["auto"]),
    (
        "type",
        &[
            "datasource",
            "prometheus",
            "query",
            "row",
            "stat",
            "state-timeline",
            "table",
            "text",
            "timeseries",
            "value",
        ],
    ),
];

/// The columns of a dashboard.
const WIDTH: u64 = 24;

/// The dashboard as it lies in the repository.
#[derive(Debug)]
pub struct Dashboard(Value);

/// An expression of the dashboard, as Prometheus gets it when all is chosen.
#[derive(Debug)]
pub struct Asked {
    pub whence: String,
    pub expression: Expression,
    /// The labels that must be there to be shown.
    pub shown: BTreeSet<String>,
}

impl Dashboard {
    /// Reads it.
    pub fn read() -> Self {
        let text = fs::read_to_string(repository("envoy/grafana/tidegate.json"));
        Self(serde_json::from_str(&text.expect("the dashboard")).expect("JSON"))
    }

    fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("the panels")
    }

    /// The panels of a type, or of any other.
    fn of_type<'a>(&'a self, kind: &'a str, is: bool) -> impl Iterator<Item = &'a Value> {
        let panels = self.panels().iter();
        panels.filter(move |panel| (panel["type"] == kind) == is)
    }

    fn variables(&self) -> &[Value] {
        let list = self.0["templating"]["list"].as_array();
        list.expect("the variables")
    }

    /// The text about callers.
    pub fn text(&self) -> &str {
        let panel = self.of_type("text", true).next().expect("a panel of text");
        text(&panel["options"]["content"])
    }

    /// Every expression.
    pub fn expressions(&self) -> Vec<Asked> {
        let panels = self.panels().iter().flat_map(|panel| {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(move |target| {
                let legend = text(&target["legendFormat"]);
                Asked {
                    whence: format!("{}: {}", text(&panel["title"]), text(&target["refId"])),
                    expression: Expression::read(&self.chosen(text(&target["expr"]))),
                    shown: between(legend, "{{", "}}").collect(),
                }
            })
        });
        // `label_values(selector, label)`.
        let queries = self.variables().iter().filter_map(|variable| {
            let query = variable["query"]["query"].as_str()?;
            assert_eq!(variable["definition"], query);
            let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
            let (selector, label) = inside.rsplit_once(", ")?;
            Some(Asked {
                whence: format!("the variable {}", text(&variable["name"])),
                expression: Expression::read(&self.chosen(selector)),
                shown: [label.to_owned()].into(),
            })
        });
        panels.chain(queries).collect()
    }

    /// With the variables of Grafana's replaced as it does.
    fn chosen(&self, expression: &str) -> String {
        let names = self.variables().iter();
        let names = names.map(|variable| text(&variable["name"]));
        let chosen = names.fold(expression.to_owned(), |chosen, name| {
            chosen.replace(&format!("\"${name}\""), &format!("\"{ALL}\""))
        });
        let chosen = chosen
            .replace("[$__rate_interval", "[20s")
            .replace("[$__range]", "[30m]");
        assert!(!chosen.contains('$'), "an unknown variable: {chosen}");
        chosen
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// What stands between two marks.
pub fn between<'a>(text: &'a str, open: &str, close: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&'a str> = text.split(open).skip(1).collect();
    let close = close.to_owned();
    parts.into_iter().map(move |part| {
        let inside = part.split_once(&close);
        inside.expect("its end").0.trim().to_owned()
    })
}

#[test]
fn the_rows_are_the_questions_in_their_order() {
    let dashboard = Dashboard::read();
    let mut rows: Vec<_> = dashboard.of_type("row", true).collect();
    rows.sort_by_key(|row| row["gridPos"]["y"].as_u64());
    let titles: Vec<_> = rows.iter().map(|row| text(&row["title"])).collect();
    assert_eq!(titles, QUESTIONS);
}

#[test]
fn no_panel_lies_on_another_or_outside() {
    let dashboard = Dashboard::read();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard.panels() {
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= WIDTH, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{cell:?} is taken: {panel}");
        }
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{panel}"
        );
    }
}

#[test]
fn whatever_asks_uses_the_chosen_data_source() {
    let dashboard = Dashboard::read();
    let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    let targets = |panel: &Value| panel["targets"].as_array().cloned().unwrap_or_default();
    let asking = dashboard.panels().iter().filter(|panel| {
        let asks = !targets(panel).is_empty();
        let silent = panel["type"] == "row" || panel["type"] == "text";
        assert_ne!(asks, silent, "{panel}");
        asks
    });
    for panel in asking {
        assert_eq!(panel["datasource"], chosen, "{panel}");
        let mut refs = BTreeSet::new();
        for target in targets(panel) {
            assert_eq!(target["datasource"], chosen, "{target}");
            assert!(refs.insert(text(&target["refId"]).to_owned()), "{panel}");
        }
    }
    let (first, others) = dashboard.variables().split_first().expect("variables");
    assert_eq!(
        (text(&first["name"]), text(&first["type"])),
        ("datasource", "datasource")
    );
    assert_eq!(first["query"], "prometheus");
    let names: Vec<_> = others.iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["job", "instance", "rule"]);
    for variable in others {
        assert_eq!(variable["datasource"], chosen, "{variable}");
        assert_eq!(variable["allValue"], ALL, "{variable}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let dashboard = Dashboard::read();
    for panel in dashboard.of_type("row", false) {
        assert!(!text(&panel["title"]).is_empty(), "{panel}");
        assert!(text(&panel["description"]).ends_with('.'), "{panel}");
        if panel["type"] != "text" {
            let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
            assert!(UNITS.contains(&unit), "{unit}");
        }
    }
}

/// Calls `see` with the names of all fields, and with each word that one of them holds.
fn fields<'v>(value: &'v Value, name: &'v str, see: &mut impl FnMut(&'v str, Option<&'v str>)) {
    match value {
        Value::Object(object) => {
            // What is mapped, and the columns of a table, have names of their own.
            let own = ["excludeByName", "indexByName", "renameByName"].contains(&name);
            for (field, inner) in object.iter().filter(|_| !own) {
                if field.parse::<u8>().is_err() {
                    see(field, None);
                }
                fields(inner, field, see);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| fields(inner, name, see)),
        Value::String(word) => see(name, Some(word)),
        _ => {}
    }
}

#[test]
fn every_field_is_one_that_grafana_reads_and_holds_a_word_that_it_knows() {
    let known: BTreeSet<_> = FIELDS.split_whitespace().collect();
    let dashboard = Dashboard::read();
    let mut seen = BTreeSet::new();
    fields(&dashboard.0, "", &mut |field, word| {
        assert!(known.contains(field), "{field}");
        let words = WORDS.iter().find(|(name, _)| *name == field);
        if let (Some(word), Some((_, words))) = (word, words) {
            assert!(words.contains(&word), "{field}: {word}");
        }
        seen.insert(field);
    });
    // What an override changes is named by its path.
    let overrides = dashboard.panels().iter().flat_map(|panel| {
        let overrides = panel["fieldConfig"]["overrides"].as_array();
        overrides.into_iter().flatten()
    });
    for one in overrides {
        assert_eq!(one["matcher"]["id"], "byFrameRefID");
        for property in one["properties"].as_array().expect("properties") {
            let path = text(&property["id"]);
            let field = path.strip_prefix("custom.").unwrap_or(path);
            assert!(known.contains(field), "{path}");
            seen.insert(field);
        }
    }
    let unused: Vec<_> = known.difference(&seen).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_phases_have_the_names_of_their_numbers() {
    use tidegate::engine::Phase::{Calm, Recovering, Surge, WarmUp, Watch};
    let dashboard = Dashboard::read();
    let names = [
        (WarmUp, "warm-up"),
        (Calm, "calm"),
        (Watch, "watch"),
        (Surge, "surge"),
        (Recovering, "recovering"),
    ];
    let mapped = dashboard.panels().iter().filter_map(|panel| {
        let mappings = panel["fieldConfig"]["defaults"]["mappings"].as_array()?;
        Some(&mappings[0]["options"])
    });
    let mut count = 0;
    for options in mapped {
        for (phase, name) in names {
            assert_eq!(options[phase.index().to_string()]["text"], name);
        }
        assert_eq!(
            options.as_object().map(serde_json::Map::len),
            Some(names.len())
        );
        count += 1;
    }
    assert_eq!(count, 2);
}

/// `key: value` of each line, without comments and the dashes of lists.
fn pairs(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(repository(file)).expect("it is there");
    let lines = text.lines().map(str::trim_start);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (key, value) = line.trim_start_matches("- ").split_once(':').expect(line);
            (key.to_owned(), value.trim().to_owned())
        })
        .collect()
}

#[test]
fn grafana_finds_the_data_source_and_the_folder_of_the_dashboard() {
    let expected = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    let source = [
        ("apiVersion", "1"),
        ("datasources", ""),
        ("name", "Prometheus"),
        ("uid", "prometheus"),
        ("type", "prometheus"),
        ("access", "proxy"),
        ("url", "http://prometheus:9090"),
        ("isDefault", "true"),
        ("jsonData", ""),
        ("timeInterval", "5s"),
    ];
    let folder = "envoy/grafana/provisioning";
    let found = pairs(&format!("{folder}/datasources/prometheus.yml"));
    assert_eq!(found, expected(&source));
    let provider = [
        ("apiVersion", "1"),
        ("providers", ""),
        ("name", "tidegate"),
        ("type", "file"),
        ("allowUiUpdates", "false"),
        ("options", ""),
        ("path", "/var/lib/grafana/dashboards"),
    ];
    let found = pairs(&format!("{folder}/dashboards/tidegate.yml"));
    assert_eq!(found, expected(&provider));
}
