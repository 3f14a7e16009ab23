//! JSON text as a tree with places.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Field, Kind, MOST_LEVELS, MOST_NODES, Node, Parsed, Style, SyntaxError, Text, yaml::note_twice,
};

/// Reads one JSON value.
pub fn from_json(text: &str) -> Result<Parsed, SyntaxError> {
    let start = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let raw: &RawValue = serde_json::from_str(start).map_err(|error| SyntaxError {
        what: bare(&error.to_string()).to_owned(),
        at: text.len() - start.len() + offset(start, error.line(), error.column()),
    })?;
    let mut reader = Reader {
        text,
        nodes: 0,
        twice: Vec::new(),
    };
    let root = reader.node(raw.get(), 1)?;
    Ok(Parsed {
        documents: vec![root],
        twice: reader.twice,
    })
}

/// The byte at a line and a column as serde_json counts them.
pub fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let at = (before + column.saturating_sub(1)).min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// A message of serde_json without its place, which is shown otherwise.
pub fn bare(what: &str) -> &str {
    what.rsplit_once(" at line ").map_or(what, |(what, _)| what)
}

struct Reader<'a> {
    text: &'a str,
    nodes: usize,
    twice: Vec<(String, Range<usize>)>,
}

impl<'a> Reader<'a> {
    /// Where a part of the text is.
    fn span(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }

    fn node(&mut self, raw: &'a str, level: usize) -> Result<Node, SyntaxError> {
        let raw = raw.trim_ascii();
        let span = self.span(raw);
        let wrong = |what: String| SyntaxError {
            what,
            at: span.start,
        };
        self.nodes += 1;
        if level > MOST_LEVELS || self.nodes > MOST_NODES {
            return Err(wrong("it is too large or too deeply nested".to_owned()));
        }
        let kind = match raw.as_bytes().first() {
            Some(b'{') => {
                let entries: Entries = parse(raw).map_err(wrong)?;
                let mut fields = Vec::with_capacity(entries.0.len());
                for (name, value) in entries.0 {
                    let name_span = self.span(name.get());
                    let name = parse::<Cow<str>>(name.get()).map_err(wrong)?.into_owned();
                    note_twice(&mut self.twice, &fields, &name, &name_span);
                    let value = self.node(value.get(), level + 1)?;
                    fields.push(Field {
                        name,
                        name_span,
                        value,
                    });
                }
                Kind::Object(fields)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = parse(raw).map_err(wrong)?;
                let elements = elements
                    .into_iter()
                    .map(|raw| self.node(raw.get(), level + 1));
                Kind::List(elements.collect::<Result<_, _>>()?)
            }
            Some(b'"') => Kind::Text(Text {
                value: parse(raw).map_err(wrong)?,
                style: Style::Double,
            }),
            Some(b't' | b'f') => Kind::Bool(raw == "true"),
            Some(b'n') => Kind::Null,
            _ => Kind::Number(parse(raw).map_err(wrong)?),
        };
        Ok(Node { span, kind })
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a str) -> Result<T, String> {
    serde_json::from_str(raw).map_err(|error| bare(&error.to_string()).to_owned())
}

/// The fields of an object as they were written, the same name twice included.
struct Entries<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_bytes() {
        let text = "\u{FEFF}{ \"ä\\n\" : [ 1.5, \"x\\\"y\" ] , \"b\": null }";
        let root = from_json(text).unwrap().documents.remove(0);
        let field = &root.fields()[0];
        assert_eq!(field.name, "ä\n");
        assert_eq!(&text[field.name_span.clone()], "\"ä\\n\"");
        assert_eq!(&text[field.value.elements()[0].span.clone()], "1.5");
        assert_eq!(field.value.elements()[1].text(), Some("x\"y"));
        assert_eq!(&text[root.fields()[1].value.span.clone()], "null");
    }

    #[test]
    fn a_field_given_twice_is_noted_at_the_second() {
        let text = r#"{"a": 1, "a": 2}"#;
        let twice = from_json(text).unwrap().twice;
        assert_eq!(twice, [("a".to_owned(), 9..12)]);
    }

    #[test]
    fn an_error_is_where_it_is() {
        let error = from_json("{\n  \"a\": x\n}").unwrap_err();
        assert_eq!((error.what.as_str(), error.at), ("expected value", 9));
        assert!(from_json(&"[".repeat(100_000)).is_err());
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(from_json(&deep).is_err());
    }
}
