//! The configuration as it was written: every field there may be, with its type.
//!
//! No field is required and no range is checked here. A malformed field keeps what is wrong with
//! it as [`Field::Wrong`], so that one mistake does not hide the others.

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use super::{
    cidr::Cidr,
    duration,
    field::{Field, List, Of, OrOff, Scalar, section},
    finding::shown,
    part::is_token,
    policy::{Key, Protocol, Sticky},
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

impl Scalar for Key {
    const TO_WRITE: &'static str = "none, source_ip, peer, sni, authority, header:NAME, \
        postgres.user, postgres.database or postgres.application_name";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "none" => Some(Self::None),
            "source_ip" => Some(Self::SourceIp),
            "peer" => Some(Self::Peer),
            "sni" => Some(Self::Sni),
            "authority" => Some(Self::Authority),
            "postgres.user" => Some(Self::Postgres("user")),
            "postgres.database" => Some(Self::Postgres("database")),
            "postgres.application_name" => Some(Self::Postgres("application_name")),
            _ => header(text).map(Self::Header),
        })
    }
}

impl Scalar for Sticky {
    const TO_WRITE: &'static str = "source_ip, header:NAME, cookie:NAME or key";

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        Ok(match text {
            "source_ip" => Some(Self::SourceIp),
            "key" => Some(Self::Key),
            _ => match text.strip_prefix("cookie:") {
                Some(name) => is_token(name).then(|| Self::Cookie(name.to_string())),
                None => header(text).map(Self::Header),
            },
        })
    }
}

/// The name in `header:NAME`, in lower case.
fn header(text: &str) -> Option<String> {
    let name = text.strip_prefix("header:")?;
    is_token(name).then(|| name.to_ascii_lowercase())
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

/// The configuration of tidegate: rules for what goes to an upstream.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawConfig {
    /// What the rules do, unless they say it themselves: `off`; `shadow` counts what would be
    /// held or rejected, and lets it pass; `enforce` acts.
    pub(super) mode: Field<Of<Mode>>,
    /// The first rule that matches decides. Absent: one rule named `default` for everything,
    /// without limits.
    pub(super) rules: Field<List<RawRule>>,
    /// For the filter of the live page alone: guards nothing, and answers a request with the last
    /// `surge_started` of the rule that its path ends with. Without `rules`.
    pub(super) status: Field<Of<bool>>,
}

section!(RawConfig { mode, rules, status } "an object such as {\"mode\": \"shadow\"}");

/// Which arrivals it is for, what its limits are, and what happens beyond them.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawRule {
    /// The label in metrics and events: at most 63 of a-z, 0-9, `_` and `-`, with a letter or digit
    /// first. Filters of the same vm_id that name the same rule share its budget.
    pub(super) name: Field<Of<String>>,
    /// What this rule does, when not what the configuration says.
    pub(super) mode: Field<Of<Mode>>,
    /// All that is given must hold. Absent: everything matches.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "match"))]
    pub(super) matcher: Field<RawMatch>,
    /// What is spoken over a TCP connection. `postgres` and `mysql` need tidegate-inspect.wasm
    /// to be answered in their own words.
    pub(super) protocol: Field<Of<Protocol>>,
    /// The ceilings. Absent: none.
    pub(super) limits: Field<RawLimits>,
    /// Who is a caller; the arrivals and slots of each are counted. `none`, `source_ip`, `peer` (the URI SAN
    /// of the mTLS certificate), `sni`, `authority`, `header:NAME`, `postgres.user`,
    /// `postgres.database` or `postgres.application_name`.
    pub(super) key: Field<Of<Key>>,
    /// Who is a user, for stable service while only a share is served: `source_ip`,
    /// `header:NAME`, `cookie:NAME` or `key`.
    pub(super) sticky: Field<Of<Sticky>>,
    /// Who is served first. The first that matches counts; absent: all are equal.
    pub(super) classes: Field<List<RawClass>>,
    /// When a surge is recognised.
    pub(super) surge: Field<RawSurge>,
    /// How arrivals over a limit wait for a free place; `off`: they don't.
    pub(super) hold: Field<OrOff<RawHold>>,
    /// Where arrivals go that would be rejected otherwise.
    pub(super) redirect: Field<RawRedirect>,
    /// How arrivals are refused.
    pub(super) reject: Field<RawReject>,
    /// Whether `limits.inflight` is lowered while the upstream refuses, is slow to connect or says
    /// nothing, and raised in steps afterwards.
    pub(super) adaptive: Field<Of<bool>>,
}

section!(
    RawRule {
        name, mode, matcher as "match", protocol, limits, key, sticky, classes, surge, hold,
        redirect, reject, adaptive,
    }
    "a rule such as {\"name\": \"orders-db\", \"limits\": {\"inflight\": 100}}"
);

/// Which arrivals a rule is for.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawMatch {
    /// HTTP only: the upstream cluster.
    pub(super) cluster: Field<Of<String>>,
    /// HTTP only: the authority (host) of the request, in upper or lower case.
    pub(super) authority: Field<Of<String>>,
    /// HTTP only: how the path begins.
    pub(super) path_prefix: Field<Of<String>>,
    /// HTTP only: one of these methods.
    pub(super) method: Field<List<Of<String>>>,
    /// The port that the downstream connected to.
    pub(super) listener_port: Field<Of<f64>>,
    /// The downstream's address is in one of these ranges.
    pub(super) source: Field<List<Of<Cidr>>>,
}

section!(
    RawMatch { cluster, authority, path_prefix, method, listener_port, source }
    "an object such as {\"listener_port\": 5432}"
);

/// The ceilings of a rule, over all workers of one Envoy.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawLimits {
    /// Open at once: connections (TCP) or requests (HTTP).
    pub(super) inflight: Field<Of<f64>>,
    /// New ones that go on, in any trailing second.
    pub(super) arrivals_per_s: Field<Of<f64>>,
    /// TCP only: opened and not yet answered by the upstream.
    pub(super) connecting: Field<Of<f64>>,
}

section!(
    RawLimits { inflight, arrivals_per_s, connecting }
    "an object such as {\"inflight\": 100}"
);

/// A class of arrivals.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawClass {
    /// What the class is called, in the form of a rule's name; not the same as another of the rule.
    pub(super) name: Field<Of<String>>,
    /// All that is given must hold. Absent: everything matches, which only the last class may.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "match"))]
    pub(super) matcher: Field<RawClassMatch>,
    /// 0 is served first, 255 last.
    pub(super) priority: Field<Of<f64>>,
    /// Places of `limits.inflight` that are its own. All that is reserved is less than the limit.
    pub(super) reserved: Field<Of<f64>>,
}

section!(
    RawClass { name, matcher as "match", priority, reserved }
    "a class such as {\"name\": \"batch\", \"priority\": 2}"
);

/// Which arrivals are of a class.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawClassMatch {
    /// The downstream's address is in one of these ranges.
    pub(super) source: Field<List<Of<Cidr>>>,
    /// HTTP only: a header has exactly this value.
    pub(super) header: Field<RawHeader>,
}

section!(RawClassMatch { source, header } "an object such as {\"source\": [\"10.9.0.0/16\"]}");

/// A header.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawHeader {
    /// Its name, in upper or lower case; or `:authority`.
    pub(super) name: Field<Of<String>>,
    /// Its value.
    pub(super) value: Field<Of<String>>,
}

section!(
    RawHeader { name, value }
    "an object such as {\"name\": \"x-tier\", \"value\": \"batch\"}"
);

/// When a surge is recognised.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawSurge {
    /// How many times the baseline is a surge; more where arrivals are noisy.
    pub(super) sensitivity: Field<Of<f64>>,
    /// How many arrivals beyond the baseline a surge has at least, in one window of 0.5 s to 32 s.
    pub(super) min_excess: Field<Of<f64>>,
    /// How long the baseline is learned at first, before anything is recognised.
    pub(super) warm_up: Field<Of<Duration>>,
    /// The normal arrival rate per second, where it is known: the baseline begins there, and there
    /// is no warm-up.
    pub(super) baseline_per_s: Field<Of<f64>>,
}

section!(
    RawSurge { sensitivity, min_excess, warm_up, baseline_per_s }
    "an object such as {\"sensitivity\": 2.0}"
);

/// How arrivals over a limit wait.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawHold {
    /// How long at most.
    pub(super) max_wait: Field<Of<Duration>>,
    /// How many at most at once, in each worker.
    pub(super) max_waiting: Field<Of<f64>>,
    /// Who goes first when a place gets free: `newest_first` keeps most waits short,
    /// `oldest_first` is fair.
    pub(super) order: Field<Of<Order>>,
}

section!(
    RawHold { max_wait, max_waiting, order }
    "off, or an object such as {\"max_wait\": \"100ms\"}"
);

/// Where arrivals go that would be rejected otherwise.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawRedirect {
    /// TCP: another cluster.
    pub(super) cluster: Field<Of<String>>,
    /// HTTP: a request header to set, by which a route is chosen.
    pub(super) header: Field<RawHeader>,
}

section!(RawRedirect { cluster, header } "an object such as {\"cluster\": \"orders-db-replica\"}");

/// How arrivals are refused.
#[derive(Default)]
#[cfg_attr(
    not(target_arch = "wasm32"),
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub(super) struct RawReject {
    /// HTTP: the status.
    pub(super) http_status: Field<Of<f64>>,
    /// HTTP: when to try again, in whole milliseconds, for the header `retry-after`; each client is
    /// told up to half as much again. `0s`: it is not told.
    pub(super) retry_after: Field<Of<Duration>>,
    /// HTTP: the body.
    pub(super) body: Field<Of<String>>,
    /// TCP: `close` the connection, or answer with the error message of the database's
    /// `protocol`, which needs tidegate-inspect.wasm and `protocol: postgres` or `mysql`.
    pub(super) tcp: Field<Of<WrittenTcp>>,
    /// TCP: the cluster that leads to the echo listener, for `tcp: protocol`.
    pub(super) cluster: Field<Of<String>>,
    /// How long the refusal of a hot caller is kept (±50 %), so that it can't hammer; `off`: it is
    /// refused at once. Over HTTP/2 and HTTP/3 it always is.
    pub(super) slow: Field<OrOff<Of<Duration>>>,
    /// How many refusals are kept at most at once, in each worker.
    pub(super) max_slow: Field<Of<f64>>,
}

section!(
    RawReject { http_status, retry_after, body, tcp, cluster, slow, max_slow }
    "an object such as {\"http_status\": 503}"
);
