//! `tidegatectl explain`: any log is explained in every format, or holds nothing.

use crate::explain::{Format, read, story::Story, written};

/// The bytes are a log.
pub fn run(data: &[u8]) {
    let lines = read::lines(data).expect("a slice");
    if lines.events.is_empty() {
        return;
    }
    let story = Story::of(lines);
    for format in [Format::Markdown, Format::Html, Format::Json] {
        let text = written(&story, format);
        assert!(!text.is_empty());
        if matches!(format, Format::Json) {
            let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(json.is_ok(), "{text}");
        }
    }
}
