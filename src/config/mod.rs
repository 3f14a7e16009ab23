//! The configuration: what the operator wrote, parsed and then checked into a [`Policy`].
//!
//! ```text
//! bytes ── JSON text ──┐
//!       └─ Struct ─────┴→ Value ─→ RawConfig ─→ Policy
//!                         bounded  typed        checked
//! ```
//!
//! All that is wrong is reported at once, each with its path, what was there and what to write;
//! nothing is ignored, guessed or half applied. (An unknown field hides what else is wrong in the
//! same object, and a contradiction shows when its rule is right otherwise.) Any bytes are fine: nothing panics, and
//! memory is bounded by a few dozen bytes for each byte given.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod bounds;
mod check;
mod cidr;
mod duration;
mod field;
mod finding;
mod index;
mod part;
mod pbstruct;
mod policy;
mod raw;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
#[cfg(test)]
mod tests;
mod value;

use alloc::{format, vec::Vec};

pub use cidr::Cidr;
pub use finding::{ConfigError, Finding};
pub use index::{Facts, RuleIndex};
pub use policy::{
    Class, ClassMatch, Header, Key, Match, Policy, Protocol, Redirect, Reject, Rule, RuleName,
    Sticky, TcpReject,
};

#[cfg(not(target_arch = "wasm32"))]
pub use schema::json_schema;

use field::Read;
use finding::shown_bytes;
use pbstruct::Refused;
use raw::RawConfig;
use value::Value;

/// What a build of the module can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Whether it reads database protocols: `tidegate-inspect.wasm` does, `tidegate.wasm` doesn't.
    pub inspect: bool,
}

impl Build {
    /// This build.
    pub const THIS: Self = Self {
        inspect: cfg!(feature = "inspect"),
    };
}

/// Reads what the operator gave: JSON text, or the bytes of a `google.protobuf.Struct`.
///
/// Zero bytes (or blanks) are the safe default: one rule that counts everything and enforces
/// nothing. The error holds all that is wrong, not just the first thing.
pub fn parse(bytes: &[u8], build: Build) -> Result<Policy, ConfigError> {
    let value = read(bytes)?;
    let raw = RawConfig::read(&value).map_err(ConfigError::whole)?;
    check::policy(raw, build)
}

fn read(bytes: &[u8]) -> Result<Value, ConfigError> {
    const TO_WRITE: &str = "write JSON such as {\"mode\": \"shadow\"}, or nothing for the default";

    if bytes.len() > bounds::CONFIGURATION_BYTES {
        return Err(ConfigError::whole(format!(
            "found {} bytes; write at most {}",
            bytes.len(),
            bounds::CONFIGURATION_BYTES
        )));
    }
    // The tag of a Struct's field is a newline, with which JSON text may begin, too.
    let mut unfit = None;
    if bytes.first() == Some(&b'\n') {
        match pbstruct::decode(bytes) {
            Ok(value) => return Ok(value),
            Err(Refused::NotAStruct) => {}
            Err(Refused::Unfit(what)) => unfit = Some(what),
        }
    }
    let text = core::str::from_utf8(bytes).unwrap_or_default();
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.trim_ascii_start().starts_with('{') {
        return Value::from_json(text)
            .map_err(|error| ConfigError::whole(format!("{error}; correct the JSON there")));
    }
    if let Some(what) = unfit {
        return Err(ConfigError::whole(what));
    }
    let blank = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
    if blank.trim_ascii().is_empty() {
        return Ok(Value::Object(Vec::new()));
    }
    Err(ConfigError::whole(format!(
        "found \"{}\"; {TO_WRITE}",
        shown_bytes(bytes)
    )))
}
