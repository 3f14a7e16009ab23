//! What is wrong with a configuration, where, and what to write.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use super::field::Field;

/// More findings than this are counted, not kept.
const MOST_FINDINGS: usize = 100;
/// Text from a configuration is shown up to this many characters.
const MOST_SHOWN: usize = 60;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field, such as `rules[0].limits.inflight`; `(configuration)` for the whole.
    pub path: String,
    /// What was there and what to write.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Why a configuration was refused: at least one finding, displayed one a line.
///
/// Bounded whatever was given: at most 101 findings, and at most 60 characters of any text that
/// was there, with control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    findings: Vec<Finding>,
}

impl ConfigError {
    /// What is wrong, rule by rule. Never empty.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// A single finding about the whole configuration.
    pub(super) fn whole(what: String) -> Self {
        Self {
            findings: alloc::vec![Finding {
                path: Path::Root.to_string(),
                what
            }],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}

/// Where a field stands; made of names the code knows, never of text from a configuration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// The whole configuration.
    Root,
    /// A field of an object.
    Field(&'a Path<'a>, &'static str),
    /// An element of a list.
    Element(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(super) fn field(&self, name: &'static str) -> Path<'_> {
        Path::Field(self, name)
    }

    pub(super) fn element(&self, index: usize) -> Path<'_> {
        Path::Element(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => f.write_str("(configuration)"),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    seen: usize,
}

impl Findings {
    pub(super) fn add(&mut self, at: &Path<'_>, what: impl Into<String>) {
        self.seen += 1;
        if self.kept.len() < MOST_FINDINGS {
            self.kept.push(Finding {
                path: at.to_string(),
                what: what.into(),
            });
        }
    }

    /// How many there were, kept or not.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// What a field holds; a malformed one becomes a finding.
    pub(super) fn take<T>(&mut self, field: Field<T>, at: &Path<'_>) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Given(value) => Some(value),
            Field::Wrong(what) => {
                self.add(at, what);
                None
            }
        }
    }

    /// The value, when nothing is wrong with it.
    pub(super) fn into_result<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.seen == 0 {
            return Ok(value);
        }
        let more = self.seen - self.kept.len();
        if more > 0 {
            self.kept.push(Finding {
                path: Path::Root.to_string(),
                what: format!("{more} more findings are not shown; correct these first"),
            });
        }
        Err(ConfigError {
            findings: self.kept,
        })
    }
}

/// The start of a text, in one line: control characters are escaped.
pub(super) fn shown(text: &str) -> String {
    let mut line = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == MOST_SHOWN {
            line.push('…');
            break;
        }
        if char.is_control() || matches!(char, '"' | '\\') {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

/// The start of what may be no text at all.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    let mut line = bytes
        .iter()
        .take(MOST_SHOWN)
        .flat_map(|byte| byte.escape_ascii())
        .map(char::from)
        .collect::<String>();
    if bytes.len() > MOST_SHOWN {
        line.push('…');
    }
    line
}

/// What to say of a field nobody knows: the one that was probably meant, or all there are.
pub(super) fn unknown_field(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    let unknown = format!("unknown field `{}`", shown(name));
    match nearest {
        Some((_, candidate)) => format!("{unknown}; did you mean `{candidate}`?"),
        None => format!("{unknown}; write one of `{}`", known.join("`, `")),
    }
}

/// How many letters must be added, removed or replaced to turn one name into the other.
/// A name too long to be a slip is infinitely far.
fn distance(name: &str, known: &str) -> usize {
    if name.len() > known.len() + 4 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (index, letter) in name.bytes().enumerate() {
        let (mut diagonal, mut left) = (index, index + 1);
        for (other, cell) in known.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (diagonal + usize::from(letter != other))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_distance_counts_letters() {
        assert_eq!(distance("inflight", "inflight"), 0);
        assert_eq!(distance("inflght", "inflight"), 1);
        assert_eq!(distance("hodl", "hold"), 2);
        assert_eq!(distance("", "mode"), 4);
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_gets_the_list() {
        let known = ["inflight", "connecting"];
        assert_eq!(
            unknown_field("inflght", &known),
            "unknown field `inflght`; did you mean `inflight`?"
        );
        assert_eq!(
            unknown_field("qps", &known),
            "unknown field `qps`; write one of `inflight`, `connecting`"
        );
    }

    #[test]
    fn what_was_there_is_shown_short_and_in_one_line() {
        assert_eq!(shown("a\nb\u{1b}[1m\"é"), "a\\nb\\u{1b}[1m\\\"é");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), MOST_SHOWN + 1);
        assert_eq!(shown_bytes(b"\x00\xff{"), "\\x00\\xff{");
        assert!(shown_bytes(&[0; 1000]).len() <= 4 * MOST_SHOWN + 3);
    }

    #[test]
    fn findings_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for index in 0..250 {
            findings.add(&Path::Root.field("rules").element(index), "wrong");
        }
        let error = findings.into_result(()).unwrap_err();
        assert_eq!(error.findings().len(), MOST_FINDINGS + 1);
        assert!(
            error
                .to_string()
                .starts_with("rules[0]: wrong\nrules[1]: wrong\n")
        );
        assert!(
            error
                .to_string()
                .ends_with("150 more findings are not shown; correct these first")
        );
    }
}
