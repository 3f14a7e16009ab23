//! What tidegate says in Envoy's log.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

/// What stands before the JSON of an event.
const MARK: &str = "tidegate_event ";

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by Envoy's clock, which is this machine's.
    pub at: Timestamp,
    /// All of it.
    json: Value,
}

impl Event {
    /// From a line of the log; none when it holds no event.
    pub fn of(line: &str) -> Option<Self> {
        let (_, json) = line.split_once(MARK)?;
        let json: Value = serde_json::from_str(json).ok()?;
        let at = json.get("at")?.as_str()?.parse().ok()?;
        Some(Self { at, json })
    }

    /// `surge_started` for example.
    pub fn name(&self) -> &str {
        self.json["event"].as_str().unwrap_or_default()
    }

    /// What is said of it when it happens, of whom it names with that much more.
    pub fn remark(&self, whose: impl Fn(&Caller) -> String) -> Option<String> {
        match self.name() {
            "started" => None,
            "surge_started" => {
                let mut text = "tidegate: a surge began".to_owned();
                if let Some(caller) = self.first_caller() {
                    text += &format!(
                        "; {} makes {:.0} % of all, {:.0}/s{}",
                        caller.key,
                        caller.share * 100.0,
                        caller.rate_per_s,
                        whose(&caller),
                    );
                }
                Some(text)
            }
            "surge_ended" => Some("tidegate: the surge ended".to_owned()),
            other => Some(format!("tidegate: {other}")),
        }
    }

    /// Who makes most of a surge.
    pub fn first_caller(&self) -> Option<Caller> {
        let caller = self.json["callers"].get(0)?;
        Some(Caller {
            key: caller["key"].as_str()?.to_owned(),
            rate_per_s: caller["rate_per_s"].as_f64()?,
            baseline_per_s: caller["baseline_per_s"].as_f64()?,
            share: caller["share"].as_f64()?,
        })
    }
}

/// A caller in an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Who it is, by the rule's `key`.
    pub key: String,
    /// Its arrivals a second.
    pub rate_per_s: f64,
    /// Its normal rate; 0 where none is known.
    pub baseline_per_s: f64,
    /// Its part of all arrivals, from 0 to 1.
    pub share: f64,
}

/// The log of an Envoy, read as it grows.
pub struct Log {
    path: PathBuf,
    read: u64,
}

impl Log {
    /// From its beginning.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// The events that came since the last call; a line that is being written is left for the next.
    pub fn more(&mut self) -> Result<Vec<Event>> {
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.read))?;
                file.read_to_end(&mut bytes)
            })
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes.truncate(whole.map_or(0, |end| end + 1));
        self.read += bytes.len() as u64;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(Event::of).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    const STARTED: &str = "[2026-01-09 15:00:02.1][12][warning][wasm] wasm log tidegate: \
        tidegate_event {\"event\":\"surge_started\",\"rule\":\"a\",\
        \"at\":\"2026-01-09T15:00:02.100Z\",\"callers\":[{\"key\":\"10.0.0.7\",\
        \"rate_per_s\":390.1,\"baseline_per_s\":1.9,\"share\":0.95}]}\n";

    #[test]
    fn an_event_says_when_and_who() {
        let event = Event::of(STARTED).unwrap();
        assert_eq!(event.name(), "surge_started");
        assert_eq!(event.at, "2026-01-09T15:00:02.1Z".parse().unwrap());
        let caller = Caller {
            key: "10.0.0.7".to_owned(),
            rate_per_s: 390.1,
            baseline_per_s: 1.9,
            share: 0.95,
        };
        assert_eq!(event.first_caller(), Some(caller));
    }

    #[test]
    fn what_is_no_event_is_none() {
        for line in [
            "nothing of interest",
            "tidegate_event {\"event\":",
            "tidegate_event {\"event\":\"surge_ended\"}",
        ] {
            assert!(Event::of(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_growing_log_is_read_once_and_by_whole_lines() {
        let path = std::env::temp_dir().join(format!("xtask-events-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut log = Log::new(path.clone());
        let mut counts = Vec::new();
        for part in ["noise\n", STARTED, &STARTED[..50], &STARTED[50..], ""] {
            file.write_all(part.as_bytes()).unwrap();
            counts.push(log.more().unwrap().len());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(counts, [0, 1, 0, 1, 0]);
    }
}
