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
    part::{for_each, instead, instead_of_text, is_token, list, rule_name, text, whole},
};
use crate::build_info::VERSION;

/// The fields of a rule that are not supported yet.
pub(super) struct Later {
    pub(super) key: Field<Of<WrittenKey>>,
    pub(super) sticky: Field<Of<WrittenSticky>>,
    pub(super) classes: Field<List<RawClass>>,
    pub(super) surge: Field<RawSurge>,
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
        refuse.field(rule.field("key"), self.key, |_, _, key| {
            !matches!(key, Of(WrittenKey::None))
        });
        refuse.field(rule.field("sticky"), self.sticky, |_, _, _| true);
        refuse.field(rule.field("classes"), self.classes, check_classes);
        refuse.field(rule.field("surge"), self.surge, check_surge);
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

/// Who is counted.
pub(super) enum WrittenKey {
    /// Nobody: callers are not told apart.
    None,
    /// One of the others.
    Some,
}

impl Scalar for WrittenKey {
    const TO_WRITE: &'static str = "none, source_ip, peer, sni, authority, header:NAME, \
        postgres.user, postgres.database or postgres.application_name";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "none" => Some(Self::None),
            "source_ip"
            | "peer"
            | "sni"
            | "authority"
            | "postgres.user"
            | "postgres.database"
            | "postgres.application_name" => Some(Self::Some),
            _ => text
                .strip_prefix("header:")
                .filter(|name| is_token(name))
                .map(|_| Self::Some),
        })
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

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a class such as {\"name\": \"batch\", \"priority\": 2}"
)]
pub(super) struct RawClass {
    name: Field<Of<String>>,
    #[serde(rename = "match")]
    matcher: Field<RawClassMatch>,
    priority: Field<Of<f64>>,
    reserved: Field<Of<f64>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"source\": [\"10.9.0.0/16\"]}"
)]
struct RawClassMatch {
    source: Field<List<Of<Cidr>>>,
    header: Field<RawHeader>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"name\": \"x-tier\", \"value\": \"batch\"}"
)]
struct RawHeader {
    name: Field<Of<String>>,
    value: Field<Of<String>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"sensitivity\": 2.0}"
)]
pub(super) struct RawSurge {
    sensitivity: Field<Of<f64>>,
    min_excess: Field<Of<f64>>,
    warm_up: Field<Of<Duration>>,
    baseline_per_s: Field<Of<f64>>,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object such as {\"cluster\": \"orders-db-replica\"}"
)]
pub(super) struct RawRedirect {
    cluster: Field<Of<String>>,
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

fn check_surge(findings: &mut Findings, at: &Path<'_>, surge: RawSurge) -> bool {
    for (field, number) in [
        ("sensitivity", surge.sensitivity),
        ("baseline_per_s", surge.baseline_per_s),
    ] {
        let at = &at.field(field);
        if let Some(Of(number)) = findings.take(number, at)
            && !(number > 0.0 && number <= 1e6)
        {
            findings.add(at, instead(number, "a number above 0, up to 1000000"));
        }
    }
    let at_excess = &at.field("min_excess");
    whole(findings, at_excess, surge.min_excess, 0..=1_000_000, None);
    findings.take(surge.warm_up, &at.field("warm_up"));
    true
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
