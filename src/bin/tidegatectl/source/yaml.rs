//! YAML text as trees with places.

use std::{collections::HashMap, ops::Range};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Field, Kind, MOST_LEVELS, MOST_NODES, Node, Parsed, Style, SyntaxError, Text};

/// Reads every document of a file.
///
/// Plain text is resolved as Envoy and the tools of Kubernetes do it, which is YAML 1.1: `off` and
/// `no` are false, and `0x10` and `010` are numbers. `<<` merges nothing, as in Envoy.
pub fn from_yaml(text: &str) -> Result<Parsed, SyntaxError> {
    let mut builder = Builder::new(text);
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| SyntaxError {
            what: error.info(),
            at: error.marker().byte_offset().unwrap_or(text.len()),
        })?;
        builder.event(event, &span)?;
    }
    Ok(builder.parsed)
}

/// Notes that an object already has a field of this name.
pub fn note_twice(
    twice: &mut Vec<(String, Range<usize>)>,
    fields: &[Field],
    name: &str,
    span: &Range<usize>,
) {
    if fields.iter().any(|field| field.name == name) {
        twice.push((name.to_owned(), span.clone()));
    }
}

/// A list or an object whose end was not seen yet.
struct Open {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// With the name that waits for its value.
    Object(Vec<Field>, Option<(String, Range<usize>)>),
}

struct Builder<'t> {
    text: &'t str,
    parsed: Parsed,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            parsed: Parsed::default(),
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), SyntaxError> {
        let range = span.byte_range().unwrap_or(0..0);
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::SequenceStart(_, anchor, _) => {
                return self.begin(range.start, anchor, Content::List(Vec::new()));
            }
            Event::MappingStart(_, anchor, _) => {
                return self.begin(range.start, anchor, Content::Object(Vec::new(), None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let kind = match open.content {
                        Content::List(list) => Kind::List(list),
                        Content::Object(fields, _) => Kind::Object(fields),
                    };
                    let span = open.start..self.end(open.start, range.end);
                    return self.add(Node { span, kind }, open.anchor);
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                let kind = scalar(value.into_owned(), style, tag.as_deref());
                let span = range.start..self.end(range.start, range.end);
                return self.add(Node { span, kind }, anchor);
            }
            Event::Alias(anchor) => {
                let (node, size) = self.anchors.get(&anchor).cloned().ok_or(SyntaxError {
                    what: "an alias within what it stands for".to_owned(),
                    at: range.start,
                })?;
                self.count(size, range.start)?;
                return self.add(node, 0);
            }
            _ => {}
        }
        Ok(())
    }

    /// The end of what may be followed by blanks and line breaks.
    fn end(&self, start: usize, end: usize) -> usize {
        let part = self.text.get(start..end).unwrap_or_default();
        start + part.trim_ascii_end().len()
    }

    fn count(&mut self, nodes: usize, at: usize) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES || self.open.len() >= MOST_LEVELS {
            return Err(SyntaxError {
                what: "it is too large or too deeply nested".to_owned(),
                at,
            });
        }
        Ok(())
    }

    fn begin(&mut self, start: usize, anchor: usize, content: Content) -> Result<(), SyntaxError> {
        self.count(0, start)?;
        self.open.push(Open {
            start,
            anchor,
            content,
        });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        self.count(1, node.span.start)?;
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => {
                if !matches!(node.kind, Kind::Null) {
                    self.parsed.documents.push(node);
                }
            }
            Some(Content::List(list)) => list.push(node),
            Some(Content::Object(fields, name)) => match name.take() {
                Some((name, name_span)) => fields.push(Field {
                    name,
                    name_span,
                    value: node,
                }),
                None => {
                    let text = self.text.get(node.span.clone()).unwrap_or_default();
                    let key = match node.kind {
                        Kind::Text(text) => text.value,
                        // A name such as 5432 or on.
                        Kind::Null | Kind::Bool(_) | Kind::Number(_) => text.to_owned(),
                        Kind::List(_) | Kind::Object(_) => {
                            return Err(SyntaxError {
                                what: "the name of a field is a list or an object".to_owned(),
                                at: node.span.start,
                            });
                        }
                    };
                    note_twice(&mut self.parsed.twice, fields, &key, &node.span);
                    *name = Some((key, node.span));
                }
            },
        }
        Ok(())
    }
}

/// How many nodes there are in a node, itself included.
fn size(node: &Node) -> usize {
    let inside = node.elements().iter();
    let inside = inside.chain(node.fields().iter().map(|field| &field.value));
    1 + inside.map(size).sum::<usize>()
}

fn scalar(value: String, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::Single,
        ScalarStyle::DoubleQuoted => Style::Double,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    };
    if style == Style::Plain && tag.is_none() {
        resolve(value)
    } else {
        Kind::Text(Text { value, style })
    }
}

/// What plain text means.
fn resolve(value: String) -> Kind {
    match value.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Kind::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Kind::Bool(false);
        }
        _ => {}
    }
    match number(&value) {
        Some(number) => Kind::Number(number),
        None => Kind::Text(Text {
            value,
            style: Style::Plain,
        }),
    }
}

fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("-", rest) => (-1.0, rest),
        ("+", rest) => (1.0, rest),
        _ => (1.0, text),
    };
    let radix = |digits: &str, radix| {
        let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        valid.then(|| u64::from_str_radix(digits, radix).ok())?
    };
    if let Some(hex) = digits.strip_prefix("0x") {
        return radix(hex, 16).map(|number| sign * number as f64);
    }
    if let Some(octal) = digits.strip_prefix("0o").or(digits.strip_prefix('0'))
        && let Some(number) = radix(octal, 8)
    {
        return Some(sign * number as f64);
    }
    let first = digits.bytes().next()?;
    let valid = (first.is_ascii_digit() || first == b'.')
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = valid.then(|| digits.parse().ok())??;
    number.is_finite().then_some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Node> {
        from_yaml(text).unwrap().documents
    }

    #[test]
    fn every_value_knows_its_bytes() {
        let text = "# ä\na:\n- b: 1 # c\n  d: [x, 'y z']\n---\ne: |\n  f\n  g\nh: 2\n";
        let docs = read(text);
        assert_eq!(docs.len(), 2);
        let list = docs[0].get("a").unwrap();
        let first = &list.elements()[0];
        assert_eq!(&text[first.span.clone()], "b: 1 # c\n  d: [x, 'y z']");
        assert_eq!(&text[first.get("b").unwrap().span.clone()], "1");
        let inner = first.get("d").unwrap();
        assert_eq!(&text[inner.span.clone()], "[x, 'y z']");
        assert_eq!(&text[inner.elements()[1].span.clone()], "'y z'");
        let block = docs[1].get("e").unwrap();
        assert_eq!(block.text(), Some("f\ng\n"));
        assert!(text[block.span.clone()].ends_with("f\n  g"), "{block:?}");
    }

    #[test]
    fn plain_text_means_what_kubernetes_tools_take_it_for() {
        let json = read("[off, 'off', No, 5, 5.0, 0x10, 010, -1e2, ~, 1.5s, 1_0, .inf, '5', -.]");
        let json = json[0].to_json().to_string();
        assert_eq!(
            json,
            r#"[false,"off",false,5.0,5.0,16.0,8.0,-100.0,null,"1.5s","1_0",".inf","5","-."]"#
        );
    }

    #[test]
    fn an_alias_is_what_it_stands_for_within_bounds() {
        let docs = read("a: &a {b: 1}\nc: *a\n");
        assert_eq!(docs[0].to_json()["c"]["b"], 1.0);
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{inner}]\n");
        }
        assert!(from_yaml(&bomb).is_err());
        assert!(from_yaml(&"[".repeat(1000)).is_err());
    }

    #[test]
    fn an_error_is_where_it_is() {
        let error = from_yaml("a: b\nc: [1, 2\n").unwrap_err();
        assert!(error.at >= 5, "{error:?}");
        let twice = from_yaml("a: 1\nb: 2\na: 3\n").unwrap().twice;
        assert_eq!(twice, [("a".to_owned(), 10..11)]);
    }
}
