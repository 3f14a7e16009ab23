//! What the configuration knows and this version does not do yet.
//!
//! These fields are checked for their form, and then refused, unless they say exactly what happens
//! anyway. A version that learns one takes it out of [`Later`] and into
//! [`Rule`](super::policy::Rule).

use alloc::{format, string::String};
use core::time::Duration;

use serde::Deserialize;

use super::{
    bounds,
    cidr::Cidr,
    field::{Field, List, Of, OrOff, Scalar},
    finding::{Findings, Path},
    part::{for_each, instead_of_text, is_token, list, rule_name, text, whole},
};
use crate::build_info::VERSION;

/// The fields of a rule that are not supported yet.
pub(super) struct Later {
    pub(super) sticky: Field<Of<WrittenSticky>>,
    pub(super) classes: Field<List<RawClass>>,
    pub(super) redirect: Field<RawRedirect>,
    pub(super) adaptive: Field<Of<bool>>,
    /// `reject.slow`.
    pub(super) slow: Field<OrOff<Of<Duration>>>,
    /// `reject.max_slow`.
    pub(super) max_slow: Field<Of<f64>>,
}

impl Later {
    /// Refuses what is given.
    pub(super) fn refuse(self, rule: &Path<'_>, findings: &mut Findings) {
        let reject = &rule.field("reject");
        let mut refuse = Refuse(findings);
        refuse.field(rule.field("sticky"), self.sticky, |_, _, _| true);
        refuse.field(rule.field("classes"), self.classes, check_classes);
        refuse.field(rule.field("redirect"), self.redirect, check_redirect);
        refuse.field(rule.field("adaptive"), self.adaptive, |_, _, Of(on)| on);
        refuse.field(reject.field("slow"), self.slow, |_, _, slow| {
            matches!(slow, OrOff::On(_))
        });
        refuse.field(
            reject.field("max_slow"),
            self.max_slow,
            |findings, at, number| {
                whole(findings, at, Field::Given(number), 1..=u32::MAX, None);
                true
            },
        );
    }
}

struct Refuse<'f>(&'f mut Findings);

impl Refuse<'_> {
    /// `asks` checks the form, and tells whether something is asked for at all.
    fn field<T>(
        &mut self,
        at: Path<'_>,
        field: Field<T>,
        asks: impl FnOnce(&mut Findings, &Path<'_>, T) -> bool,
    ) {
        let Some(value) = self.0.take(field, &at) else {
            return;
        };
        let seen = self.0.seen();
        if asks(self.0, &at, value) && self.0.seen() == seen {
            let what = format!("not supported yet by this version ({VERSION}); remove it");
            self.0.add(&at, what);
        }
    }
}

/// Who gets stable service.
pub(super) struct WrittenSticky;

impl Scalar for WrittenSticky {
    const TO_WRITE: &'static str = "source_ip, header:NAME, cookie:NAME or key";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        let name = text
            .strip_prefix("header:")
            .or_else(|| text.strip_prefix("cookie:"));
        let valid = matches!(text, "source_ip" | "key") || name.is_some_and(is_token);
        Ok(valid.then_some(Self))
    }
}

/// A class of arrivals.
#[derive(Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a class such as {\"name\": \"batch\", \"priority\": 2}"
)]
pub(super) struct RawClass {
    /// The label of the class.
    name: Field<Of<String>>,
    /// All that is given must hold.
    #[serde(rename = "match")]
    matcher: Field<RawClassMatch>,
    /// 0 is served first.
    priority: Field<Of<f64>>,
    /// Places of the inflight limit that are its own.
    reserved: Field<Of<f64>>,
}

/// Which arrivals are of a class.
#[derive(Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"source\": [\"10.9.0.0/16\"]}"
)]
struct RawClassMatch {
    /// The downstream's address is in one of these ranges.
    source: Field<List<Of<Cidr>>>,
    /// HTTP only: a header has this value.
    header: Field<RawHeader>,
}

/// A header.
#[derive(Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"name\": \"x-tier\", \"value\": \"batch\"}"
)]
struct RawHeader {
    /// Its name.
    name: Field<Of<String>>,
    /// Its value.
    value: Field<Of<String>>,
}

/// Where arrivals go that would be rejected otherwise.
#[derive(Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"cluster\": \"orders-db-replica\"}"
)]
pub(super) struct RawRedirect {
    /// TCP: another cluster.
    cluster: Field<Of<String>>,
    /// HTTP: a request header to set, by which a route is chosen.
    header: Field<RawHeader>,
}

fn check_classes(findings: &mut Findings, at: &Path<'_>, classes: List<RawClass>) -> bool {
    let any = classes.given > 0;
    for_each(findings, at, classes, |findings, index, class| {
        let at = &at.element(index);
        rule_name(findings, at, class.name);
        for (field, number) in [("priority", class.priority), ("reserved", class.reserved)] {
            whole(findings, &at.field(field), number, 0..=1_000_000, None);
        }
        let at = &at.field("match");
        if let Some(matcher) = findings.take(class.matcher, at) {
            list(findings, &at.field("source"), matcher.source);
            check_header(findings, &at.field("header"), matcher.header);
        }
    });
    any
}

fn check_redirect(findings: &mut Findings, at: &Path<'_>, redirect: RawRedirect) -> bool {
    let absent = matches!(
        redirect,
        RawRedirect {
            cluster: Field::Absent,
            header: Field::Absent,
        }
    );
    if absent {
        findings.add(
            at,
            "neither a cluster nor a header is given; write one, or remove it",
        );
    }
    text(
        findings,
        &at.field("cluster"),
        redirect.cluster,
        bounds::NAME_BYTES,
    );
    check_header(findings, &at.field("header"), redirect.header);
    true
}

fn check_header(findings: &mut Findings, at: &Path<'_>, header: Field<RawHeader>) {
    let Some(header) = findings.take(header, at) else {
        return;
    };
    let at_name = &at.field("name");
    if matches!(header.name, Field::Absent) {
        findings.add(at_name, "it is missing; write the name of the header");
    }
    if let Some(name) = text(findings, at_name, header.name, bounds::NAME_BYTES)
        && !is_token(&name)
    {
        findings.add(at_name, instead_of_text(&name, "the name of a header"));
    }
    text(
        findings,
        &at.field("value"),
        header.value,
        bounds::TEXT_BYTES,
    );
}
