//! The configuration as it was written: every field there may be, with its type.
//!
//! No field is required and no range is checked here. A malformed field keeps what is wrong with
//! it as [`Field::Wrong`], so that one mistake does not hide the others.

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use serde::Deserialize;

use super::{
    cidr::Cidr,
    duration,
    field::{Field, List, Of, OrOff, Scalar},
    finding::shown,
    later::{RawClass, RawRedirect, RawSurge, WrittenKey, WrittenSticky},
    policy::Protocol,
};
use crate::engine::{Mode, Order};

/// Text of any kind.
impl Scalar for String {
    const TO_WRITE: &'static str = "text in quotes";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(text.to_string()))
    }
}

/// Any number; what it counts is checked with its range.
impl Scalar for f64 {
    const TO_WRITE: &'static str = "a number without quotes";

    fn from_number(number: f64) -> Result<Option<Self>, String> {
        Ok(Some(number))
    }
}

/// A truth value; `off` is false.
impl Scalar for bool {
    const TO_WRITE: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok((text == "off").then_some(false))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Scalar for Duration {
    const TO_WRITE: &'static str = "a duration such as \"500ms\" or \"2s\"";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(duration::parse(text))
    }

    fn from_number(number: f64) -> Result<Option<Self>, String> {
        Err(format!(
            "{} has no unit; write {}",
            shown(&number.to_string()),
            Self::TO_WRITE
        ))
    }
}

impl Scalar for Cidr {
    const TO_WRITE: &'static str = "a range such as \"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Self::parse(text).map(Some)
    }
}

/// YAML 1.1 reads `off` as false, and `on` as true.
impl Scalar for Mode {
    const TO_WRITE: &'static str = "off, shadow or enforce";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "off" => Some(Self::Off),
            "shadow" => Some(Self::Shadow),
            "enforce" => Some(Self::Enforce),
            _ => None,
        })
    }

    fn from_bool(value: bool) -> Option<Self> {
        (!value).then_some(Self::Off)
    }
}

impl Scalar for Order {
    const TO_WRITE: &'static str = "newest_first or oldest_first";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "newest_first" => Some(Self::NewestFirst),
            "oldest_first" => Some(Self::OldestFirst),
            _ => None,
        })
    }
}

impl Scalar for Protocol {
    const TO_WRITE: &'static str = "tcp, postgres or mysql";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "tcp" => Some(Self::Tcp),
            "postgres" => Some(Self::Postgres),
            "mysql" => Some(Self::Mysql),
            _ => None,
        })
    }
}

/// What `reject.tcp` says.
#[derive(Clone, Copy)]
pub(super) enum WrittenTcp {
    Close,
    Protocol,
}

impl Scalar for WrittenTcp {
    const TO_WRITE: &'static str = "close or protocol";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "close" => Some(Self::Close),
            "protocol" => Some(Self::Protocol),
            _ => None,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"mode\": \"shadow\"}"
)]
pub(super) struct RawConfig {
    pub(super) mode: Field<Of<Mode>>,
    pub(super) rules: Field<List<RawRule>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a rule such as {\"name\": \"orders-db\", \"limits\": {\"inflight\": 100}}"
)]
pub(super) struct RawRule {
    pub(super) name: Field<Of<String>>,
    pub(super) mode: Field<Of<Mode>>,
    #[serde(rename = "match")]
    pub(super) matcher: Field<RawMatch>,
    pub(super) protocol: Field<Of<Protocol>>,
    pub(super) limits: Field<RawLimits>,
    pub(super) key: Field<Of<WrittenKey>>,
    pub(super) sticky: Field<Of<WrittenSticky>>,
    pub(super) classes: Field<List<RawClass>>,
    pub(super) surge: Field<RawSurge>,
    pub(super) hold: Field<OrOff<RawHold>>,
    pub(super) redirect: Field<RawRedirect>,
    pub(super) reject: Field<RawReject>,
    pub(super) adaptive: Field<Of<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"listener_port\": 5432}"
)]
pub(super) struct RawMatch {
    pub(super) cluster: Field<Of<String>>,
    pub(super) authority: Field<Of<String>>,
    pub(super) path_prefix: Field<Of<String>>,
    pub(super) method: Field<List<Of<String>>>,
    pub(super) listener_port: Field<Of<f64>>,
    pub(super) source: Field<List<Of<Cidr>>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"inflight\": 100}"
)]
pub(super) struct RawLimits {
    pub(super) inflight: Field<Of<f64>>,
    pub(super) arrivals_per_s: Field<Of<f64>>,
    pub(super) connecting: Field<Of<f64>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "off, or an object such as {\"max_wait\": \"100ms\"}"
)]
pub(super) struct RawHold {
    pub(super) max_wait: Field<Of<Duration>>,
    pub(super) max_waiting: Field<Of<f64>>,
    pub(super) order: Field<Of<Order>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"http_status\": 503}"
)]
pub(super) struct RawReject {
    pub(super) http_status: Field<Of<f64>>,
    pub(super) retry_after: Field<Of<Duration>>,
    pub(super) body: Field<Of<String>>,
    pub(super) tcp: Field<Of<WrittenTcp>>,
    pub(super) cluster: Field<Of<String>>,
    pub(super) slow: Field<OrOff<Of<Duration>>>,
    pub(super) max_slow: Field<Of<f64>>,
}
