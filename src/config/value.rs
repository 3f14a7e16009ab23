//! What was given, as a bounded tree: the common form of JSON text and of a Struct.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{bounds, finding::shown};

/// A value. A whole number is exact up to 2^53, far above every bound here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    /// In the order given; no name occurs twice.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads JSON text. An error names its line and column.
    pub(super) fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let left = Cell::new(bounds::VALUES);
        let mut json = serde_json::Deserializer::from_str(text);
        let value = Tree { left: &left }.deserialize(&mut json)?;
        json.end()?;
        Ok(value)
    }

    /// What is wrong with it where something else is to be written. The reader knows where.
    pub(super) fn wrong(&self, to_write: &str) -> String {
        let found = match self {
            Self::Null => String::from("null"),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => shown(&number.to_string()),
            Self::Text(text) => format!("\"{}\"", shown(text)),
            Self::List(_) => String::from("a list"),
            Self::Object(_) => String::from("an object"),
        };
        format!("found {found}; write {to_write}")
    }
}

/// Why a name or a value was one too many.
pub(super) fn one_too_many(what: &str, most: usize) -> String {
    format!("more than {most} {what}; a configuration needs fewer")
}

/// Why the second field of a name was refused.
pub(super) fn given_twice(name: &str) -> String {
    format!("the field `{}` is given twice", shown(name))
}

/// Builds a tree from what `left` allows.
#[derive(Clone, Copy)]
struct Tree<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(one_too_many("values", bounds::VALUES))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.len() == bounds::FIELDS {
                let what = one_too_many("fields in one object", bounds::FIELDS);
                return Err(A::Error::custom(what));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(given_twice(&name)));
            }
            fields.push((name, map.next_value_seed(self)?));
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn refused(text: &str) -> String {
        Value::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn a_field_given_twice_is_refused_with_its_place() {
        assert_eq!(
            refused("{\"mode\": \"off\",\n \"mode\": 1}"),
            "the field `mode` is given twice at line 2 column 7"
        );
        assert!(Value::from_json(r#"[{"a": 1}, {"a": 1}]"#).is_ok());
    }

    #[test]
    fn levels_values_and_fields_are_bounded() {
        assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
        let nulls = "null,".repeat(bounds::VALUES);
        assert!(refused(&format!("[{nulls}null]")).contains("32768 values"));
        let fields = (0..=bounds::FIELDS).map(|index| format!("\"{index}\": 0"));
        let fields = fields.collect::<Vec<_>>().join(",");
        assert!(refused(&format!("{{{fields}}}")).contains("64 fields"));
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(refused("{} {}").contains("line 1 column 4"));
    }
}
