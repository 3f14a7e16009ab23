//! What was given, as a bounded tree: the common form of JSON text and of a Struct.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    bounds,
    finding::{shown, unknown_field},
};

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

/// What is wrong with a value: what was there, and what to write. The reader knows where.
#[derive(Debug)]
pub(super) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, to_write: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unit => String::from("null"),
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Float(number) => shown(&number.to_string()),
            Unexpected::Str(text) => format!("\"{}\"", shown(text)),
            Unexpected::Seq => String::from("a list"),
            Unexpected::Map => String::from("an object"),
            other => shown(&other.to_string()),
        };
        Self(format!("found {found}; write {to_write}"))
    }

    fn invalid_value(found: Unexpected<'_>, to_write: &dyn Expected) -> Self {
        Self::invalid_type(found, to_write)
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self(unknown_field(name, known))
    }
}

impl<'de> IntoDeserializer<'de, Wrong> for &'de Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter())),
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(
                fields.iter().map(|(name, value)| (name.as_str(), value)),
            )),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A derived struct would take a list for its fields in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self {
            Value::List(_) => Err(Wrong::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
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
