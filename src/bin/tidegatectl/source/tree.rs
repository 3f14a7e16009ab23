//! A document as a tree of values, each with its place.

use std::ops::Range;

use serde_json::Value;

/// A value and the bytes of the file that say it.
#[derive(Clone, Debug)]
pub struct Node {
    /// From the first byte to the one behind the last.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(Text),
    /// A list.
    List(Vec<Node>),
    /// An object: its fields in their order.
    Object(Vec<Field>),
}

/// Text, and the notation it was written in.
#[derive(Clone, Debug)]
pub struct Text {
    /// As it is meant, without quotes and escapes.
    pub value: String,
    /// How it was written.
    pub style: Style,
}

/// How text was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// YAML without quotes.
    Plain,
    /// YAML in single quotes.
    Single,
    /// JSON, and YAML in double quotes.
    Double,
    /// YAML behind `|` or `>`.
    Block,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where the name is.
    pub name_span: Range<usize>,
    /// What it holds.
    pub value: Node,
}

impl Node {
    /// The fields of an object; none of anything else.
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The elements of a list; none of anything else.
    pub fn elements(&self) -> &[Self] {
        match &self.kind {
            Kind::List(list) => list,
            _ => &[],
        }
    }

    /// A field of this very name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// What a field of this very name holds, unless it is null.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let value = &self.field(name)?.value;
        (!matches!(value.kind, Kind::Null)).then_some(value)
    }

    /// What a field of a protobuf message holds: `vm_config` may be written `vmConfig`.
    pub fn proto(&self, name: &str) -> Option<&Self> {
        self.get(name).or_else(|| self.get(&camel(name)))
    }

    /// What is at a path of protobuf fields.
    pub fn path<const N: usize>(&self, names: [&str; N]) -> Option<&Self> {
        names.iter().try_fold(self, |node, name| node.proto(name))
    }

    /// The text, when it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(&text.value),
            _ => None,
        }
    }

    /// The number, when it is one; Envoy also takes it in quotes.
    pub fn number(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(number) => Some(*number),
            Kind::Text(text) => text.value.parse().ok(),
            _ => None,
        }
    }

    /// Whether some text in here, names aside, passes a test.
    pub fn any_text(&self, test: &mut impl FnMut(&str) -> bool) -> bool {
        match &self.kind {
            Kind::Text(text) => test(&text.value),
            Kind::List(list) => list.iter().any(|node| node.any_text(test)),
            Kind::Object(fields) => fields.iter().any(|field| field.value.any_text(test)),
            _ => false,
        }
    }

    /// As JSON, without the places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Number(number) => (*number).into(),
            Kind::Text(text) => text.value.as_str().into(),
            Kind::List(list) => list.iter().map(Self::to_json).collect(),
            Kind::Object(fields) => fields
                .iter()
                .map(|field| (field.name.clone(), field.value.to_json()))
                .collect(),
        }
    }

    /// The place of `rules[0].limits.inflight`, or of what encloses it most closely.
    pub fn locate(&self, path: &str) -> Range<usize> {
        let mut node = self;
        let mut place = node.span.clone();
        for step in steps(path) {
            let next = match step {
                Step::Field(name) => node.field(name).map(|field| match field.value.kind {
                    // Of what has many lines, the name alone.
                    Kind::List(_) | Kind::Object(_) => (&field.value, field.name_span.clone()),
                    _ => (&field.value, field.value.span.clone()),
                }),
                Step::Element(index) => node
                    .elements()
                    .get(index)
                    .map(|node| (node, node.span.clone())),
            };
            let Some(next) = next else { break };
            (node, place) = next;
        }
        place
    }

    /// The node at a path, if there is one.
    pub fn at(&self, path: &str) -> Option<&Self> {
        steps(path).try_fold(self, |node, step| match step {
            Step::Field(name) => node.get(name),
            Step::Element(index) => node.elements().get(index),
        })
    }

    /// Moves every place.
    pub fn map_spans(&mut self, to: &impl Fn(Range<usize>) -> Range<usize>) {
        self.span = to(self.span.clone());
        match &mut self.kind {
            Kind::List(list) => list.iter_mut().for_each(|node| node.map_spans(to)),
            Kind::Object(fields) => {
                for field in fields {
                    field.name_span = to(field.name_span.clone());
                    field.value.map_spans(to);
                }
            }
            _ => {}
        }
    }
}

enum Step<'a> {
    Field(&'a str),
    Element(usize),
}

/// The steps of a path as findings write it; none of `(configuration)`.
fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let path = if path.starts_with('(') { "" } else { path };
    path.split(['.', '['])
        .filter(|step| !step.is_empty())
        .map(|step| match step.strip_suffix(']').map(str::parse) {
            Some(Ok(index)) => Step::Element(index),
            _ => Step::Field(step),
        })
}

/// `vm_config` as `vmConfig`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::{super::from_json, *};

    fn tree(text: &str) -> Node {
        from_json(text).unwrap().documents.remove(0)
    }

    #[test]
    fn a_path_leads_to_its_place_or_to_the_nearest_around_it() {
        let text = r#"{"rules": [{"limits": {"inflight": 0}}]}"#;
        let node = tree(text);
        let shown = |path: &str| &text[node.locate(path)];
        assert_eq!(shown("rules[0].limits.inflight"), "0");
        assert_eq!(shown("rules[0].limits.connecting"), "\"limits\"");
        assert_eq!(shown("rules[0].name"), "{\"limits\": {\"inflight\": 0}}");
        assert_eq!(shown("rules[7]"), "\"rules\"");
        assert_eq!(shown("(configuration)"), text);
    }

    #[test]
    fn a_protobuf_field_has_two_spellings() {
        let node = tree(r#"{"vmConfig": {"vm_id": "a"}, "b": null}"#);
        let id = node.path(["vm_config", "vm_id"]).unwrap();
        assert_eq!(id.text(), Some("a"));
        assert!(node.proto("b").is_none());
    }
}
