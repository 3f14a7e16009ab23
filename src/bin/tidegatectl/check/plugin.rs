//! The plugin's own configuration: parsed by the plugin's own parser, with places in the file.

use std::ops::Range;

use tidegate::config::{self, Build, Policy};

use super::filter::Written;
use crate::{
    report::Finding,
    source::{Alignment, Node, bare, from_json, offset},
};

/// Where the fields of a configuration are in the file.
pub struct Places {
    /// The configuration, with places in the file.
    tree: Option<Node>,
    /// What encloses it.
    around: Range<usize>,
}

impl Places {
    /// The place of `rules[0].limits.inflight`, or the nearest around it.
    pub fn locate(&self, path: &str) -> Range<usize> {
        let tree = self.tree.as_ref();
        tree.map_or_else(|| self.around.clone(), |tree| tree.locate(path))
    }
}

/// Parses a configuration as the plugin would, and adds what it refuses to the findings.
pub fn check(
    file: &str,
    written: &Written<'_>,
    around: Range<usize>,
    build: Build,
    findings: &mut Vec<Finding>,
) -> (Option<Policy>, Places) {
    let mut alignment = None;
    let (text, tree, around) = match *written {
        Written::Nothing => (String::new(), None, around),
        Written::Tree(node) => (
            node.to_json().to_string(),
            Some(node.clone()),
            node.span.clone(),
        ),
        Written::Text(node) => {
            let text = node.text().unwrap_or_default().to_owned();
            alignment = Alignment::of(file, node);
            let tree = alignment.as_ref().and_then(|alignment| {
                let mut tree = from_json(&text).ok()?.documents.pop()?;
                tree.map_spans(&|span| alignment.place(span));
                Some(tree)
            });
            (text, tree, node.span.clone())
        }
        Written::Wrong(ref place, ref what) => {
            findings.push(Finding::error(what, place.clone()));
            let around = place.clone();
            return (None, Places { tree: None, around });
        }
    };
    let places = Places { tree, around };
    match config::parse(text.as_bytes(), build) {
        Ok(policy) => (Some(policy), places),
        Err(error) => {
            for finding in error.findings() {
                // The place within the text says nothing to who reads the file.
                let (what, at) = split_place(&finding.what);
                let place = at
                    .zip(alignment.as_ref())
                    .map(|((line, column), alignment)| {
                        let at = offset(&text, line, column);
                        alignment.place(at..at + 1)
                    })
                    .or_else(|| unknown(&places, &finding.path, &finding.what))
                    .unwrap_or_else(|| places.locate(&finding.path));
                findings.push(Finding::error(format!("{}: {what}", finding.path), place));
            }
            (None, places)
        }
    }
}

/// `found x at line 3 column 5; correct it` → `found x; correct it` and the line and column.
fn split_place(what: &str) -> (String, Option<(usize, usize)>) {
    let place = || {
        let (_, behind) = what.rsplit_once(" at line ")?;
        let (place, rest) = behind.split_once(';').unwrap_or((behind, ""));
        let (line, column) = place.split_once(" column ")?;
        Some(((line.parse().ok()?, column.trim().parse().ok()?), rest))
    };
    match place() {
        Some((place, "")) => (bare(what).to_owned(), Some(place)),
        Some((place, rest)) => (format!("{};{rest}", bare(what)), Some(place)),
        None => (what.to_owned(), None),
    }
}

/// The place of a field's name that nobody knows; the path is that of its object.
fn unknown(places: &Places, path: &str, what: &str) -> Option<Range<usize>> {
    let (name, _) = what.strip_prefix("unknown field `")?.split_once("`;")?;
    let object = places.tree.as_ref()?.at(path)?;
    Some(object.field(name)?.name_span.clone())
}
