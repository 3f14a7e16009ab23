//! The forms a field can have, as serde sees them.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::MapAccessDeserializer,
    },
};

use super::bounds;

/// A field of an object, or an element of a list. `null` is as good as absent.
#[derive(Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// What was there and what to write.
    Wrong(String),
    Given(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_none<E>(self) -> Result<Field<T>, E> {
                Ok(Field::Absent)
            }

            fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Field<T>, D::Error> {
                Ok(match T::deserialize(value) {
                    Ok(value) => Field::Given(value),
                    Err(wrong) => Field::Wrong(wrong.to_string()),
                })
            }
        }

        deserializer.deserialize_option(Any(PhantomData))
    }
}

/// A list, each element of which may be wrong by itself.
pub(super) struct List<T> {
    /// The first [`bounds::LIST`].
    pub(super) kept: Vec<Field<T>>,
    /// How many were given.
    pub(super) given: usize,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, in brackets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < bounds::LIST
                    && let Some(element) = seq.next_element()?
                {
                    kept.push(element);
                }
                let mut given = kept.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    given += 1;
                }
                Ok(List { kept, given })
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
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

/// A [`Scalar`] as serde sees it.
pub(super) struct Of<T>(pub(super) T);

impl<'de, T: Scalar> Deserialize<'de> for Of<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);

        impl<T: Scalar> Visitor<'_> for One<T> {
            type Value = Of<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::TO_WRITE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Of<T>, E> {
                T::from_text(text)
                    .map_err(E::custom)?
                    .map(Of)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Of<T>, E> {
                T::from_number(number)
                    .map_err(E::custom)?
                    .map(Of)
                    .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Of<T>, E> {
                T::from_bool(value)
                    .map(Of)
                    .ok_or_else(|| E::invalid_value(Unexpected::Bool(value), &self))
            }
        }

        deserializer.deserialize_any(One(PhantomData))
    }
}

/// A section or a value that can be switched off, with `off` or false.
pub(super) enum OrOff<T> {
    Off,
    On(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OrOff<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, or leave it out")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<OrOff<T>, E> {
                if value {
                    T::deserialize(value.into_deserializer()).map(OrOff::On)
                } else {
                    Ok(OrOff::Off)
                }
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<OrOff<T>, E> {
                T::deserialize(number.into_deserializer()).map(OrOff::On)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OrOff<T>, E> {
                if text == "off" {
                    Ok(OrOff::Off)
                } else {
                    T::deserialize(text.into_deserializer()).map(OrOff::On)
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrOff<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OrOff::On)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
