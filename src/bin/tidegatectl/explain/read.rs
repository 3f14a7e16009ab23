//! From a log to its events.

use std::io::{self, BufRead};

use serde_json::Value;

use super::event::{Event, NoEvent};

/// What stands before the JSON of an event.
const MARK: &str = "tidegate_event";
/// A line is read up to here; an event is far shorter.
const MOST_BYTES: usize = 1 << 20;

/// The events of a log.
#[derive(Debug, Default)]
pub struct Lines {
    /// By time.
    pub events: Vec<Event>,
    /// Lines with the mark that are no events.
    pub malformed: usize,
    /// Events that this version does not know.
    pub unknown: usize,
}

/// Reads a log: lines of Envoy as they are, or wrapped in JSON by a collector.
pub fn lines(mut log: impl BufRead) -> io::Result<Lines> {
    let mut lines = Lines::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        line.truncate(MOST_BYTES);
        let line = String::from_utf8_lossy(&line);
        if !line.contains(MARK) {
            continue;
        }
        match event(&line) {
            Ok(event) => lines.events.push(event),
            Err(NoEvent::Malformed) => lines.malformed += 1,
            Err(NoEvent::Unknown) => lines.unknown += 1,
        }
    }
    lines.events.sort_by_key(|event| event.at);
    Ok(lines)
}

fn event(line: &str) -> Result<Event, NoEvent> {
    if let Some(value) = behind_mark(line) {
        return Event::from_json(value);
    }
    let value = serde_json::from_str(line.trim()).map_err(|_| NoEvent::Malformed)?;
    let text = wrapped(&value).ok_or(NoEvent::Malformed)?;
    Event::from_json(behind_mark(text).ok_or(NoEvent::Malformed)?)
}

/// The JSON value behind the mark; what follows it does not matter.
fn behind_mark(text: &str) -> Option<Value> {
    let (_, json) = text.split_once(MARK)?;
    let json = json.trim_start();
    let mut values = serde_json::Deserializer::from_str(json).into_iter();
    values.next()?.ok()
}

/// The text in a JSON line that holds the mark.
fn wrapped(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.contains(MARK).then_some(text),
        Value::Array(list) => list.iter().find_map(wrapped),
        Value::Object(fields) => fields.values().find_map(wrapped),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> Lines {
        lines(log.as_bytes()).unwrap()
    }

    #[test]
    fn events_are_found_in_lines_of_any_kind_and_put_in_order() {
        let log = "[2026-01-09 15:00:02.1][12][warning][wasm] wasm log tidegate: tidegate_event {\"event\":\"fault\",\"at\":\"2026-01-09T15:00:02Z\"} trailing\n\
            {\"level\":\"info\",\"msg\":\"tidegate_event {\\\"event\\\":\\\"fault\\\",\\\"at\\\":\\\"2026-01-09T15:00:01Z\\\"}\"}\n\
            nothing of interest\n";
        let lines = read(log);
        assert_eq!(lines.events.len(), 2);
        assert!(lines.events[0].at < lines.events[1].at);
        assert_eq!((lines.malformed, lines.unknown), (0, 0));
    }

    #[test]
    fn what_is_no_event_is_counted() {
        let lines = read(
            "tidegate_event\ntidegate_event {\"event\":\ntidegate_event []\n\
             tidegate_event {\"event\":\"x\",\"at\":\"2026-01-09T15:00:01Z\"}\n\
             {\"msg\": 5, \"tidegate_event\": 1}",
        );
        assert_eq!(
            (lines.events.len(), lines.malformed, lines.unknown),
            (0, 4, 1)
        );
        let lossy =
            lines_of(b"\xff tidegate_event {\"event\":\"fault\",\"at\":\"2026-01-09T15:00:01Z\"}");
        assert_eq!(lossy.events.len(), 1);
    }

    fn lines_of(log: &[u8]) -> Lines {
        lines(log).unwrap()
    }
}
