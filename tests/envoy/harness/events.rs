//! The events in a log.

use serde_json::Value;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    /// By Envoy's clock, in ms since the epoch.
    pub at_ms: i64,
    /// Of its line, from the first byte of the log's own to the last.
    pub length: usize,
    pub json: Value,
}

impl Event {
    /// A field that is a number.
    pub fn number(&self, field: &str) -> f64 {
        let value = self.json[field].as_f64();
        value.unwrap_or_else(|| panic!("{field} is no number: {}", self.json))
    }

    /// A field that is text.
    pub fn text(&self, field: &str) -> &str {
        let value = self.json[field].as_str();
        value.unwrap_or_else(|| panic!("{field} is no text: {}", self.json))
    }

    /// The keys of the callers, the first one first.
    pub fn callers(&self) -> Vec<&str> {
        let callers = self.json["callers"].as_array().expect("the callers");
        let keys = callers
            .iter()
            .map(|caller| caller["key"].as_str().expect("a key"));
        keys.collect()
    }

    /// It names this one as its culprit, who makes most of the arrivals.
    ///
    /// How much of them is left open: a surge is told after a few dozen, and the calm ones before
    /// them were sampled.
    pub fn blames(&self, culprit: &str) {
        assert_eq!(self.text("spread"), "one_caller", "{}", self.json);
        assert_eq!(self.callers()[0], culprit, "{}", self.json);
        let share = self.json["callers"][0]["share"].as_f64();
        assert!(share > Some(0.5), "{}", self.json);
    }
}

/// The events in a log. Each is one line that holds one JSON object.
pub fn events(log: &str) -> Vec<Event> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| Some((line, line.trim_end().split_once("tidegate_event ")?.1)))
        .map(|(line, json)| {
            let json: Value =
                serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
            let at = json["at"].as_str().expect("a time").parse();
            let at: jiff::Timestamp = at.expect("a time as RFC 3339 writes it");
            Event {
                name: json["event"].as_str().expect("a name").to_owned(),
                at_ms: at.as_millisecond(),
                length: line.len(),
                json,
            }
        })
        .collect()
}

/// Two lines about one rule that are less than a second apart.
pub fn too_close(events: &[Event]) -> Option<[&Event; 2]> {
    let about = |event: &Event| event.json["rule"].as_str().map(str::to_owned);
    let pairs = events.iter().enumerate().flat_map(|(index, first)| {
        let later = events.iter().skip(index + 1);
        let same = later.filter(|later| about(later).is_some() && about(later) == about(first));
        same.map(move |later| [first, later])
    });
    pairs
        .into_iter()
        .find(|[first, later]| first.at_ms.abs_diff(later.at_ms) < 1000)
}

#[test]
fn lines_that_are_too_close_are_found() {
    let line = |rule: &str, at: &str| {
        format!("x tidegate_event {{\"event\":\"e\",\"rule\":\"{rule}\",\"at\":\"{at}\"}}\n")
    };
    let first = line("a", "2026-01-09T15:00:02.100Z");
    let other = line("b", "2026-01-09T15:00:02.200Z");
    let [close, far] =
        ["03.099Z", "03.100Z"].map(|at| line("a", &format!("2026-01-09T15:00:{at}")));
    let found = |lines: [&str; 3]| too_close(&events(&lines.concat())).is_some();
    assert!(found([&first, &other, &close]));
    assert!(!found([&first, &other, &far]));
}
