//! Files with places: what was written, and the bytes of the file that say it.

mod align;
mod json;
mod tree;
mod yaml;

use std::ops::Range;

pub use align::Alignment;
pub use json::{bare, from_json, offset};
pub use tree::{Field, Kind, Node, Style, Text};

/// Bytes of a file that may be read at most; far above any bootstrap.
pub const MOST_BYTES: usize = 64 << 20;
/// Nodes of a file at most, aliases counted as what they stand for.
const MOST_NODES: usize = 2_000_000;
/// Levels of a file at most.
const MOST_LEVELS: usize = 128;

/// The documents of a file.
#[derive(Debug, Default)]
pub struct Parsed {
    /// One per document; a document without content is missing.
    pub documents: Vec<Node>,
    /// The second fields of a name in one object.
    pub twice: Vec<(String, Range<usize>)>,
}

/// Why a file could not be read, and where.
#[derive(Debug)]
pub struct SyntaxError {
    /// What was found or expected.
    pub what: String,
    /// The byte, which may be the one behind the last.
    pub at: usize,
}

/// Reads a file that holds JSON, or any number of YAML documents.
pub fn read(text: &str) -> Result<Parsed, SyntaxError> {
    let start = text.trim_start_matches('\u{FEFF}').trim_ascii_start();
    if start.starts_with(['{', '[']) {
        match from_json(text) {
            Ok(parsed) => return Ok(parsed),
            // JSON as it should be, but for a slip; or YAML in the flow style.
            Err(error) => return yaml::from_yaml(text).map_err(|_| error),
        }
    }
    yaml::from_yaml(text)
}
