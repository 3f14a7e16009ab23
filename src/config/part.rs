//! The checks that many fields share.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, ops::RangeInclusive, time::Duration};

use super::{
    bounds, duration,
    field::{Field, List, Of},
    finding::{Findings, Path, shown},
    policy::{Header, RuleName},
    raw::RawHeader,
};

/// A whole number within a range, both ends included. `zero` is what to say of a zero outside it.
pub(super) fn whole(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<Of<f64>>,
    range: RangeInclusive<u32>,
    zero: Option<&str>,
) -> Option<u32> {
    let Of(number) = findings.take(field, at)?;
    // The cast saturates, and cuts off a fraction.
    let whole = number as u32;
    if f64::from(whole) == number && range.contains(&whole) {
        return Some(whole);
    }
    let what = match zero {
        Some(zero) if number == 0.0 => zero.to_string(),
        _ => {
            let (least, most) = range.into_inner();
            instead(number, &format!("a whole number from {least} to {most}"))
        }
    };
    findings.add(at, what);
    None
}

/// Any number within a range, both ends included.
pub(super) fn number(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<Of<f64>>,
    range: RangeInclusive<f64>,
) -> Option<f64> {
    let Of(number) = findings.take(field, at)?;
    if range.contains(&number) {
        return Some(number);
    }
    let (least, most) = range.into_inner();
    let what = instead(number, &format!("a number from {least} to {most}"));
    findings.add(at, what);
    None
}

/// A duration within a range, both ends included.
pub(super) fn span(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<Of<Duration>>,
    range: RangeInclusive<Duration>,
) -> Option<Duration> {
    let Of(span) = findings.take(field, at)?;
    if range.contains(&span) {
        return Some(span);
    }
    let (least, most) = (duration::text(*range.start()), duration::text(*range.end()));
    let what = instead(
        duration::text(span),
        &format!("a duration from {least} to {most}"),
    );
    findings.add(at, what);
    None
}

/// Text in one line that is not empty, of at most `most` bytes.
pub(super) fn text(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<Of<String>>,
    most: usize,
) -> Option<String> {
    let Of(text) = findings.take(field, at)?;
    let what = if text.is_empty() {
        String::from("it is empty; write something, or leave it out")
    } else if text.len() > most {
        too_long(&text, most)
    } else if text.chars().any(char::is_control) {
        instead_of_text(&text, "text without control characters")
    } else {
        return Some(text);
    };
    findings.add(at, what);
    None
}

/// What can't be left out.
pub(super) fn required<T>(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<T>,
    to_write: &str,
) -> Field<T> {
    if let Field::Absent = field {
        findings.add(at, format!("it is missing; write {to_write}"));
    }
    field
}

/// A header that is asked for or set.
pub(super) fn header(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<RawHeader>,
) -> Option<Header> {
    const NAME: &str = "the name of a header, or :authority";
    const VALUE: &str = "the value of the header";

    let raw = findings.take(field, at)?;
    let at_name = &at.field("name");
    let name = required(findings, at_name, raw.name, NAME);
    let name = text(findings, at_name, name, bounds::NAME_BYTES);
    if let Some(name) = &name
        && name != ":authority"
        && !is_token(name)
    {
        findings.add(at_name, instead_of_text(name, NAME));
    }
    let at = &at.field("value");
    let value = required(findings, at, raw.value, VALUE);
    let value = text(findings, at, value, bounds::TEXT_BYTES);
    Some(Header {
        name: name?.to_ascii_lowercase(),
        value: value?,
    })
}

/// What came before in a list of rules or classes, the first match of which counts.
pub(super) struct Earlier<'a> {
    list: &'a Path<'a>,
    names: Vec<(usize, RuleName)>,
    /// The element before, when it matches everything.
    pub(super) everything: Option<usize>,
}

impl<'a> Earlier<'a> {
    /// Nothing yet.
    pub(super) fn none(list: &'a Path<'a>) -> Self {
        Self {
            list,
            names: Vec::new(),
            everything: None,
        }
    }

    /// The name of the next element, which can be reached, and is called otherwise than all before.
    pub(super) fn next(
        &mut self,
        findings: &mut Findings,
        index: usize,
        name: Field<Of<String>>,
    ) -> Option<RuleName> {
        let at = &self.list.element(index);
        if let Some(earlier) = self.everything.take() {
            let earlier = self.list.element(earlier);
            let what = format!(
                "never reached, because {earlier} matches everything; \
                 make that one the last, or give it a match"
            );
            findings.add(at, what);
        }
        let at = &at.field("name");
        let name = required(findings, at, name, "a name such as \"orders-db\"");
        let Of(text) = findings.take(name, at)?;
        let Some(name) = RuleName::new(&text) else {
            let what = instead_of_text(
                &text,
                "at most 63 of a-z, 0-9, \"_\" and \"-\", with a letter or digit first",
            );
            findings.add(at, what);
            return None;
        };
        match self.names.iter().find(|(_, other)| *other == name) {
            Some((earlier, _)) => {
                let earlier = self.list.element(*earlier);
                let what = format!("\"{name}\" is the name of {earlier} already; write another");
                findings.add(at, what);
            }
            None => self.names.push((index, name.clone())),
        }
        Some(name)
    }
}

/// The elements of a list that asks for something, and so can't be empty.
pub(super) fn list<T>(
    findings: &mut Findings,
    at: &Path<'_>,
    field: Field<List<T>>,
) -> Vec<(usize, T)> {
    let Some(list) = findings.take(field, at) else {
        return Vec::new();
    };
    if list.given == 0 {
        findings.add(
            at,
            "an empty list matches nothing; leave it out to match everything",
        );
    }
    let mut kept = Vec::new();
    for_each(findings, at, list, bounds::LIST, |_, index, element| {
        kept.push((index, element));
    });
    kept
}

/// Goes through the elements that are not malformed, with their places. More than `most`, which is
/// [`bounds::LIST`] or less, are a finding.
pub(super) fn for_each<T>(
    findings: &mut Findings,
    at: &Path<'_>,
    list: List<T>,
    most: usize,
    mut check: impl FnMut(&mut Findings, usize, T),
) {
    if list.given > most {
        let what = format!("found {} elements; write at most {most}", list.given);
        findings.add(at, what);
    }
    for (index, element) in list.kept.into_iter().enumerate() {
        let at = &at.element(index);
        if let Field::Absent = element {
            findings.add(at, "found null; remove it");
        }
        if let Some(element) = findings.take(element, at) {
            check(findings, index, element);
        }
    }
}

/// What was found and what to write, of a number or a duration.
pub(super) fn instead(found: impl fmt::Display, to_write: &str) -> String {
    format!("found {}; write {to_write}", shown(&found.to_string()))
}

/// What was found and what to write, of text.
pub(super) fn instead_of_text(found: &str, to_write: &str) -> String {
    format!("found \"{}\"; write {to_write}", shown(found))
}

/// What to say of text that is too long.
pub(super) fn too_long(text: &str, most: usize) -> String {
    format!("found {} bytes; write at most {most}", text.len())
}

/// Whether this can be the name of a header, a cookie or a method (RFC 9110, section 5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= bounds::NAME_BYTES
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
