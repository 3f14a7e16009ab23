//! The pages that people read, and what is in them.
//!
//! Read as GitHub does, as far as the pages need it: fenced blocks, headings, links and tables.

#![allow(dead_code, reason = "each kind of tests needs a part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A page.
pub struct Page {
    /// From the root of the checkout.
    pub path: PathBuf,
    text: String,
}

/// A fenced block.
pub struct Block {
    /// The last heading before it, and the line where it begins; for messages.
    pub place: String,
    pub heading: String,
    /// The first word behind the fence.
    pub language: String,
    /// The other words: the file in `envoy/` that it is a part of.
    pub about: String,
    pub text: String,
}

/// A table, and the last heading before it.
pub struct Table {
    pub heading: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A line, and what it is.
enum Line<'p> {
    Heading(usize, &'p str),
    Prose(&'p str),
    Fence(usize, &'p str),
    Code(&'p str),
}

impl Page {
    /// Those in the root, and all below `docs` and `envoy`.
    pub fn all() -> Vec<Self> {
        let mut paths = ["README.md", "CHANGELOG.md", "SECURITY.md"]
            .map(PathBuf::from)
            .to_vec();
        let mut folders = vec![PathBuf::from("docs"), PathBuf::from("envoy")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
                let entry = entry.expect("an entry");
                let path = folder.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == "md") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        paths.into_iter().map(Self::read).collect()
    }

    /// One of them.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut fence = None;
        let lines = self.text.lines().enumerate().map(|(index, line)| {
            let opening = line.trim_start().strip_prefix("```");
            match (fence, opening) {
                (None, Some(info)) => {
                    fence = Some(line.len() - line.trim_start().len());
                    Line::Fence(index + 1, info)
                }
                (Some(_), Some("")) => {
                    fence = None;
                    Line::Prose("")
                }
                (Some(indent), _) => {
                    let start = line.find(|c: char| c != ' ').unwrap_or(line.len());
                    Line::Code(&line[start.min(indent)..])
                }
                (None, None) => match line.trim_start_matches('#') {
                    rest if rest.len() < line.len() && rest.starts_with(' ') => {
                        Line::Heading(line.len() - rest.len(), rest.trim())
                    }
                    _ => Line::Prose(line),
                },
            }
        });
        let lines = lines.collect();
        assert!(
            fence.is_none(),
            "{}: a block has no end",
            self.path.display()
        );
        lines
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut heading = "";
        let mut blocks = Vec::<Block>::new();
        for line in self.lines() {
            match line {
                Line::Heading(_, text) => heading = text,
                Line::Fence(number, info) => {
                    let (language, about) = info.split_once(' ').unwrap_or((info, ""));
                    blocks.push(Block {
                        place: format!("{}:{number}", self.path.display()),
                        heading: heading.to_owned(),
                        language: language.to_owned(),
                        about: about.to_owned(),
                        text: String::new(),
                    });
                }
                Line::Code(text) => {
                    let block = blocks.last_mut().expect("its fence");
                    block.text += &format!("{text}\n");
                }
                Line::Prose(_) => {}
            }
        }
        blocks
    }

    /// Its headings, with their levels.
    pub fn headings(&self) -> Vec<(usize, &str)> {
        let lines = self.lines().into_iter();
        lines
            .filter_map(|line| match line {
                Line::Heading(level, text) => Some((level, text)),
                _ => None,
            })
            .collect()
    }

    /// What its headings are linked to by.
    pub fn anchors(&self) -> Vec<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        let headings = self.headings().into_iter();
        headings
            .map(|(_, text)| {
                let kept = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
                let anchor: String = text.chars().filter(kept).collect();
                let anchor = anchor.to_lowercase().replace(' ', "-");
                let times = seen.entry(anchor.clone()).or_default();
                *times += 1;
                match *times {
                    1 => anchor,
                    _ => format!("{anchor}-{}", *times - 1),
                }
            })
            .collect()
    }

    /// All but its blocks.
    pub fn prose(&self) -> String {
        let lines = self.lines().into_iter();
        let lines = lines.filter_map(|line| match line {
            Line::Heading(_, text) | Line::Prose(text) => Some(text),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Where its links and pictures lead.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1);
        targets
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .collect()
    }

    /// Its tables.
    pub fn tables(&self) -> Vec<Table> {
        let mut heading = "";
        let mut tables = Vec::<Table>::new();
        let mut inside = false;
        for line in self.lines() {
            let row = match line {
                Line::Heading(_, text) => {
                    heading = text;
                    None
                }
                Line::Prose(text) => cells(text),
                _ => None,
            };
            match (row, inside) {
                (None, _) => inside = false,
                (Some(header), false) => {
                    inside = true;
                    tables.push(Table {
                        heading: heading.to_owned(),
                        header,
                        rows: Vec::new(),
                    });
                }
                (Some(row), true) => {
                    let table = tables.last_mut().expect("its header");
                    assert_eq!(row.len(), table.header.len(), "{heading}: {row:?}");
                    if !row.iter().all(|cell| cell == "---") {
                        table.rows.push(row);
                    }
                }
            }
        }
        tables
    }
}

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<String>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    let row = row.replace("\\|", "\u{0}");
    let cells = row.split('|').map(|cell| cell.trim().replace('\u{0}', "|"));
    Some(cells.collect())
}

/// What stands between backticks.
pub fn codes(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The words of letters, digits and `_` that begin like this.
pub fn names<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(start)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `docs/metrics-and-events.md` says of a metric.
pub struct Metric {
    pub name: String,
    pub kind: String,
    pub labels: BTreeSet<String>,
}

impl Metric {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let page = Page::read("docs/metrics-and-events.md");
        let tables = page.tables().into_iter();
        let rows = tables
            .filter(|table| table.header[0] == "metric")
            .flat_map(|table| table.rows);
        rows.map(|row| Self {
            name: codes(&row[0])[0].to_owned(),
            kind: row[1].clone(),
            labels: codes(&row[2]).into_iter().map(str::to_owned).collect(),
        })
        .collect()
    }

    /// The names that it has in Prometheus, each with its labels.
    pub fn series(&self) -> Vec<(String, BTreeSet<String>)> {
        if self.kind != "histogram" {
            return vec![(self.name.clone(), self.labels.clone())];
        }
        let part = |part: &str, more: Option<&str>| {
            let labels = self.labels.iter().map(String::as_str).chain(more);
            let labels = labels.map(str::to_owned).collect();
            (format!("{}_{part}", self.name), labels)
        };
        vec![
            part("bucket", Some("le")),
            part("sum", None),
            part("count", None),
        ]
    }
}

/// The values in the first column of the tables whose first column is called like that.
pub fn values(of: &str) -> Vec<String> {
    let page = Page::read("docs/metrics-and-events.md");
    let tables = page.tables().into_iter();
    let rows = tables
        .filter(|table| codes(&table.header[0]) == [of])
        .flat_map(|table| table.rows);
    rows.map(|row| codes(&row[0])[0].to_owned()).collect()
}
