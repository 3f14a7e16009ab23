//! What Envoy says of itself, in Prometheus' text format.

use std::collections::BTreeMap;

/// One series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub all: Vec<Series>,
}

impl Metrics {
    /// Reads the text; a line of another form is a mistake of somebody's.
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            all: lines.map(series).collect(),
        }
    }

    /// The sum over all series of this name that have these labels. There must be one.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |series: &&Series| {
            let has = |(label, value): &(&str, &str)| {
                series.labels.get(*label).is_some_and(|v| v == value)
            };
            series.name == name && labels.iter().all(has)
        };
        let found: Vec<&Series> = self.all.iter().filter(fits).collect();
        assert!(!found.is_empty(), "there is no {name} with {labels:?}");
        found.iter().map(|series| series.value).sum()
    }

    /// Like [`Self::sum`], of one rule.
    pub fn rule(&self, rule: &str, name: &str) -> f64 {
        self.sum(name, &[("rule", rule)])
    }

    /// The refusals of one rule for one reason.
    pub fn rejected(&self, rule: &str, reason: &str) -> f64 {
        self.sum(
            "tidegate_rejected_total",
            &[("rule", rule), ("reason", reason)],
        )
    }

    /// What this plugin says, without what is zero; for messages.
    pub fn told(&self) -> String {
        let ours = |series: &&Series| series.name.starts_with("tidegate_") && series.value != 0.0;
        let shown = self.all.iter().filter(ours).filter(|series| {
            !series.name.ends_with("_bucket") && !series.name.starts_with("tidegate_build")
        });
        shown
            .map(|series| format!("\n  {}{:?} {}", series.name, series.labels, series.value))
            .collect()
    }
}

/// `name{label="value",...} number`.
fn series(line: &str) -> Series {
    let read = || {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{')?;
        let mut rest = labels.strip_suffix('}')?;
        let mut labels = BTreeMap::new();
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            labels.insert(label.to_owned(), value.to_owned());
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Some(Series {
            name: name.to_owned(),
            labels,
            value: value.parse().ok()?,
        })
    };
    read().unwrap_or_else(|| panic!("no line of Prometheus' format: {line}"))
}

#[test]
fn a_line_of_prometheus_text_is_read_with_its_labels() {
    let metrics =
        Metrics::parse("# TYPE a counter\na{rule=\"x\",reason=\"y\"} 2\na{rule=\"z\"} 3\n");
    assert_eq!(metrics.rule("x", "a"), 2.0);
    assert_eq!(metrics.sum("a", &[]), 5.0);
}
