//! The forms a field can have.
//!
//! They are read from a [`Value`] by a few functions that all types share: what serde would derive
//! for each type was a sixth of the module.

use alloc::{string::String, vec::Vec};

use super::{bounds, finding::unknown_field, value::Value};

/// Something that is read from a value.
pub(super) trait Read: Sized {
    /// The error says what was there and what to write.
    fn read(value: &Value) -> Result<Self, String>;
}

/// A field of an object, or an element of a list. `null` is as good as absent.
#[derive(Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// What was there and what to write.
    Wrong(String),
    Given(T),
}

impl<T: Read> Field<T> {
    fn read(value: &Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            _ => T::read(value).map_or_else(Self::Wrong, Self::Given),
        }
    }
}

/// An object that is read.
pub(super) struct Section<'a>(&'a [(String, Value)]);

impl<'a> Section<'a> {
    /// An object that has no fields but the known ones.
    pub(super) fn of(value: &'a Value, known: &[&str], to_write: &str) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(value.wrong(to_write));
        };
        match fields.iter().find(|(name, _)| !known.contains(&&**name)) {
            Some((name, _)) => Err(unknown_field(name, known)),
            None => Ok(Self(fields)),
        }
    }

    /// One of its fields.
    pub(super) fn field<T: Read>(&self, name: &str) -> Field<T> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or(Field::Absent, |(_, value)| Field::read(value))
    }
}

/// Makes an object readable: its fields, each with its name if that is another, and what to write
/// where there is none.
macro_rules! section {
    ($section:ident { $($field:ident $(as $name:literal)?),+ $(,)? } $to_write:literal) => {
        impl $crate::config::field::Read for $section {
            fn read(
                value: &$crate::config::value::Value,
            ) -> Result<Self, ::alloc::string::String> {
                const KNOWN: &[&str] =
                    &[$($crate::config::field::section!(@ $field $($name)?)),+];
                let section = $crate::config::field::Section::of(value, KNOWN, $to_write)?;
                Ok(Self {
                    $($field: section.field($crate::config::field::section!(@ $field $($name)?)),)+
                })
            }
        }
    };
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $name:literal) => { $name };
}
pub(super) use section;

/// A list, each element of which may be wrong by itself.
pub(super) struct List<T> {
    /// The first [`bounds::LIST`].
    pub(super) kept: Vec<Field<T>>,
    /// How many were given.
    pub(super) given: usize,
}

impl<T: Read> Read for List<T> {
    fn read(value: &Value) -> Result<Self, String> {
        let Value::List(list) = value else {
            return Err(value.wrong("a list, in brackets"));
        };
        Ok(Self {
            kept: list.iter().take(bounds::LIST).map(Field::read).collect(),
            given: list.len(),
        })
    }
}

/// A value that is written as text (or, a few, as a number or a truth value).
pub(super) trait Scalar: Sized {
    /// What to write, after "write".
    const TO_WRITE: &'static str;

    /// `Ok(None)` for what it is not, and an error for a special hint.
    fn from_text(_: &str) -> Result<Option<Self>, String> {
        Ok(None)
    }

    fn from_number(_: f64) -> Result<Option<Self>, String> {
        Ok(None)
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }
}

/// A [`Scalar`] as it is read.
pub(super) struct Of<T>(pub(super) T);

impl<T: Scalar> Read for Of<T> {
    fn read(value: &Value) -> Result<Self, String> {
        let scalar = match value {
            Value::Text(text) => T::from_text(text)?,
            Value::Number(number) => T::from_number(*number)?,
            Value::Bool(value) => T::from_bool(*value),
            Value::Null | Value::List(_) | Value::Object(_) => None,
        };
        scalar.map(Self).ok_or_else(|| value.wrong(T::TO_WRITE))
    }
}

/// A section or a value that can be switched off, with `off` or false.
pub(super) enum OrOff<T> {
    Off,
    On(T),
}

impl<T: Read> Read for OrOff<T> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(false) => Ok(Self::Off),
            Value::Text(text) if text == "off" => Ok(Self::Off),
            Value::Null | Value::List(_) => Err(value.wrong("off, or leave it out")),
            _ => T::read(value).map(Self::On),
        }
    }
}
