//! The bytes of a `google.protobuf.Struct`, as Envoy hands them over.
//!
//! <https://protobuf.dev/reference/protobuf/google.protobuf/#struct>. Strict: what no writer of a
//! Struct produces is refused, so that JSON text which happens to begin with a newline, the tag of
//! a Struct's field, is never taken for one. In particular, every field of a Struct holds the byte
//! 0x12, which JSON text can't.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    bounds,
    value::{Value, given_twice, one_too_many},
};

/// Field number and wire type of what the messages hold.
mod tag {
    pub(super) const STRUCT_ENTRY: u8 = 1 << 3 | LEN;
    pub(super) const ENTRY_KEY: u8 = 1 << 3 | LEN;
    pub(super) const ENTRY_VALUE: u8 = 2 << 3 | LEN;
    pub(super) const LIST_VALUE: u8 = 1 << 3 | LEN;
    pub(super) const NULL: u8 = 1 << 3 | VARINT;
    pub(super) const NUMBER: u8 = 2 << 3 | FIXED64;
    pub(super) const TEXT: u8 = 3 << 3 | LEN;
    pub(super) const BOOL: u8 = 4 << 3 | VARINT;
    pub(super) const STRUCT: u8 = 5 << 3 | LEN;
    pub(super) const LIST: u8 = 6 << 3 | LEN;
    const VARINT: u8 = 0;
    const FIXED64: u8 = 1;
    const LEN: u8 = 2;
}

/// Why bytes were not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// They are no Struct.
    NotAStruct,
    /// They are one, but not one of ours: a sentence.
    Unfit(String),
}

/// Reads a Struct. Memory: in proportion to the bytes, whatever lengths they claim.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, Refused> {
    Decoder {
        left: bounds::VALUES,
    }
    .object(bytes, 1)
}

struct Decoder {
    /// How many values may still come.
    left: usize,
}

impl Decoder {
    fn object(&mut self, bytes: &[u8], level: usize) -> Result<Value, Refused> {
        self.enter(level)?;
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut rest = Bytes(bytes);
        while !rest.is_empty() {
            rest.expect(tag::STRUCT_ENTRY)?;
            let mut entry = Bytes(rest.block()?);
            // A map's empty key may be left out.
            let name = if entry.next_is(tag::ENTRY_KEY) {
                entry.text()?
            } else {
                String::new()
            };
            entry.expect(tag::ENTRY_VALUE)?;
            let value = self.value(entry.block()?, level)?;
            entry.end()?;
            if fields.len() == bounds::FIELDS {
                let what = one_too_many("fields in one object", bounds::FIELDS);
                return Err(Refused::Unfit(what));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Refused::Unfit(given_twice(&name)));
            }
            fields.push((name, value));
        }
        Ok(Value::Object(fields))
    }

    fn list(&mut self, bytes: &[u8], level: usize) -> Result<Value, Refused> {
        self.enter(level)?;
        let mut list = Vec::new();
        let mut rest = Bytes(bytes);
        while !rest.is_empty() {
            rest.expect(tag::LIST_VALUE)?;
            list.push(self.value(rest.block()?, level)?);
        }
        Ok(Value::List(list))
    }

    /// A value holds exactly one of its kinds.
    fn value(&mut self, bytes: &[u8], level: usize) -> Result<Value, Refused> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return Err(Refused::Unfit(one_too_many("values", bounds::VALUES))),
        }
        let mut rest = Bytes(bytes);
        let value = match rest.byte()? {
            tag::NULL if rest.varint()? == 0 => Value::Null,
            tag::NUMBER => Value::Number(rest.double()?),
            tag::TEXT => Value::Text(rest.text()?),
            tag::BOOL => match rest.varint()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Refused::NotAStruct),
            },
            tag::STRUCT => self.object(rest.block()?, level + 1)?,
            tag::LIST => self.list(rest.block()?, level + 1)?,
            _ => return Err(Refused::NotAStruct),
        };
        rest.end()?;
        Ok(value)
    }

    fn enter(&self, level: usize) -> Result<(), Refused> {
        if level <= bounds::STRUCT_LEVELS {
            return Ok(());
        }
        Err(Refused::Unfit(format!(
            "objects and lists in more than {} levels; a configuration needs fewer",
            bounds::STRUCT_LEVELS
        )))
    }
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(&self) -> Result<(), Refused> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Refused::NotAStruct)
        }
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        let (first, rest) = self.0.split_first().ok_or(Refused::NotAStruct)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Whether this byte is next; it is consumed then.
    fn next_is(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refused> {
        if self.next_is(byte) {
            Ok(())
        } else {
            Err(Refused::NotAStruct)
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Refused::NotAStruct)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Refused> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            // The tenth byte has room for one bit.
            if (bits << shift) >> shift != bits {
                return Err(Refused::NotAStruct);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Refused::NotAStruct)
    }

    fn block(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Refused::NotAStruct)?)
    }

    fn text(&mut self) -> Result<String, Refused> {
        let bytes = self.block()?;
        let text = core::str::from_utf8(bytes).map_err(|_| Refused::NotAStruct)?;
        Ok(text.to_string())
    }

    fn double(&mut self) -> Result<f64, Refused> {
        let bytes = self.take(8)?;
        let bytes = bytes.try_into().map_err(|_| Refused::NotAStruct)?;
        Ok(f64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::{super::tests::encode, *};

    fn nested(levels: usize) -> Value {
        (1..levels).fold(Value::Object(Vec::new()), |inner, level| {
            if level == levels - 1 || level % 2 == 0 {
                Value::Object(Vec::from([("a".to_string(), inner)]))
            } else {
                Value::List(Vec::from([inner]))
            }
        })
    }

    #[test]
    fn what_protoc_writes_is_read() {
        // {"a": 1.5, "b": [true, null], "c": {"d": "e"}}
        let bytes = b"\n\x0e\n\x01a\x12\x09\x11\0\0\0\0\0\0\xf8\x3f\
            \n\x0f\n\x01b\x12\x0a\x32\x08\n\x02\x20\x01\n\x02\x08\0\
            \n\x11\n\x01c\x12\x0c\x2a\x0a\n\x08\n\x01d\x12\x03\x1a\x01e";
        let text = r#"{"a": 1.5, "b": [true, null], "c": {"d": "e"}}"#;
        assert_eq!(decode(bytes), Ok(Value::from_json(text).unwrap()));
        assert_eq!(encode(&Value::from_json(text).unwrap()), bytes);
    }

    #[test]
    fn what_nothing_writes_is_refused() {
        let cases: [&[u8]; 12] = [
            b"\n",
            b"\n\x05",
            b"\n\0",
            b"\n\x03\n\x01a",
            b"\n\x05\n\x01a\x12\0",
            b"\n\x07\n\x01a\x12\x02\x08\x01",
            b"\n\x07\n\x01a\x12\x02\x20\x02",
            b"\n\x07\n\x01a\x12\x02\x38\0",
            b"\n\x09\n\x01a\x12\x04\x08\0\x08\0",
            b"\n\x07\n\x01\xff\x12\x02\x08\0",
            b"\n\x07\n\x01a\x12\x02\x08\0\x10",
            b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        ];
        for bytes in cases {
            assert_eq!(decode(bytes), Err(Refused::NotAStruct), "{bytes:?}");
        }
    }

    #[test]
    fn a_length_near_the_end_of_the_range_neither_panics_nor_allocates() {
        let bytes = b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01rest";
        assert_eq!(decode(bytes), Err(Refused::NotAStruct));
    }

    #[test]
    fn levels_values_and_fields_are_bounded() {
        let refused = |value: &Value| match decode(&encode(value)) {
            Err(Refused::Unfit(what)) => what,
            other => panic!("{other:?}"),
        };
        let deepest = nested(bounds::STRUCT_LEVELS);
        assert_eq!(decode(&encode(&deepest)), Ok(deepest));
        assert!(refused(&nested(bounds::STRUCT_LEVELS + 1)).contains("32 levels"));
        assert!(refused(&nested(200)).contains("32 levels"));

        let list = Value::List(alloc::vec![Value::Null; bounds::VALUES]);
        let many = Value::Object(Vec::from([("a".to_string(), list)]));
        assert!(refused(&many).contains("32768 values"));

        let wide = (0..=bounds::FIELDS).map(|index| (index.to_string(), Value::Null));
        assert!(refused(&Value::Object(wide.collect())).contains("64 fields"));
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let field = ("mode".to_string(), Value::Null);
        let twice = Value::Object(Vec::from([field.clone(), field]));
        let what = "the field `mode` is given twice".to_string();
        assert_eq!(decode(&encode(&twice)), Err(Refused::Unfit(what)));
    }

    #[test]
    fn an_empty_key_may_be_left_out() {
        let fields = Vec::from([(String::new(), Value::Null)]);
        assert_eq!(decode(b"\n\x04\x12\x02\x08\0"), Ok(Value::Object(fields)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
