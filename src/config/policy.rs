//! The configuration as it was checked: what is here can be acted on as it stands.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{
    fmt,
    net::IpAddr,
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::{bounds, cidr::Cidr};
use crate::engine::{DetectorConfig, Hold, Limits, Mode, Order};

/// A checked configuration. [`parse`](super::parse) alone makes one.
///
/// Its rules have different names, and each can be reached: only the last may match everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
    status: bool,
}

impl Policy {
    pub(super) fn new(rules: Vec<Rule>, status: bool) -> Self {
        Self { rules, status }
    }

    /// 1 to [`bounds::RULES`] rules, of which the first that matches an arrival decides it; none for the
    /// [live page](Self::tells_status).
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether requests are answered with what was last told of a rule, and nothing is guarded.
    pub fn tells_status(&self) -> bool {
        self.status
    }
}

/// What happens to the arrivals that match.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Filters that name the same rule share its budget.
    pub name: RuleName,
    /// Whether it acts.
    pub mode: Mode,
    /// Which arrivals it is for.
    pub matcher: Match,
    /// What is spoken over a TCP connection. [`Protocol::Tcp`] when
    /// [`matcher`](Self::matcher) is for HTTP only.
    pub protocol: Protocol,
    /// The ceilings, each within [`bounds::LIMIT`]. `connecting` is `None` when
    /// [`matcher`](Self::matcher) is for HTTP only.
    pub limits: Limits,
    /// Who is a caller.
    pub key: Key,
    /// Who is a user, for stable service while only a share is served. [`Sticky::Header`] and
    /// [`Sticky::Cookie`] only where [`protocol`](Self::protocol) is [`Protocol::Tcp`], and
    /// [`Sticky::Key`] only where [`key`](Self::key) tells callers apart.
    pub sticky: Sticky,
    /// The first that matches counts; at most [`bounds::CLASSES`], of different names, and only the
    /// last may match everything. Empty: all are equal. Less is reserved than `limits.inflight`.
    pub classes: Vec<Class>,
    /// When arrivals are a surge, within [`bounds::SENSITIVITY`] and the others of its fields.
    pub surge: DetectorConfig,
    /// How arrivals over a limit wait, within [`bounds::MAX_WAIT`] and [`bounds::MAX_WAITING`];
    /// `None` when they don't.
    pub hold: Option<Hold>,
    /// Where arrivals go that would be rejected otherwise.
    pub redirect: Option<Redirect>,
    /// How arrivals are refused.
    pub reject: Reject,
    /// Whether the inflight limit, which is given then, is lowered while the upstream is in
    /// distress. Off unless it is asked for: nobody gets less than the limit that was written
    /// without having wanted it.
    pub adaptive: bool,
}

impl Rule {
    /// The rule there is when none is given: it counts everything and limits nothing.
    pub(super) fn default_in(mode: Mode) -> Self {
        Self {
            name: RuleName(String::from("default")),
            mode,
            matcher: Match::everything(),
            protocol: Protocol::default(),
            limits: Limits::default(),
            key: Key::default(),
            sticky: Sticky::default(),
            classes: Vec::new(),
            surge: DetectorConfig::default(),
            hold: Some(default_hold()),
            redirect: None,
            reject: Reject::default(),
            adaptive: false,
        }
    }
}

/// The hold of a rule that says nothing of it.
pub(super) fn default_hold() -> Hold {
    Hold {
        max_wait: Duration::from_millis(100),
        max_waiting: NonZeroU32::MIN.saturating_add(1023),
        order: Order::NewestFirst,
    }
}

/// The name of a rule: `[a-z0-9][a-z0-9_-]{0,62}`, safe in a metric and in a shared key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleName(String);

impl RuleName {
    /// `None` for what is no name.
    pub fn new(name: &str) -> Option<Self> {
        let first = name.bytes().next()?;
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (valid(first)
            && name.len() <= bounds::RULE_NAME_BYTES
            && name
                .bytes()
                .all(|byte| valid(byte) || matches!(byte, b'_' | b'-')))
        .then(|| Self(name.to_string()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which arrivals a rule is for: all that is given must hold.
///
/// The questions below answer for one fact each, and are true where nothing is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// HTTP: the name of the upstream cluster, at most [`bounds::NAME_BYTES`].
    pub cluster: Option<String>,
    /// HTTP: the authority (host) of the request, at most [`bounds::NAME_BYTES`].
    pub authority: Option<String>,
    /// HTTP: how the path begins, with a slash, at most [`bounds::TEXT_BYTES`].
    pub path_prefix: Option<String>,
    /// HTTP: one of these methods, at most [`bounds::LIST`]; empty for any.
    pub methods: Vec<String>,
    /// The port that the downstream connected to.
    pub listener_port: Option<NonZeroU16>,
    /// The downstream's address is in one of these, at most [`bounds::LIST`]; empty for any.
    pub sources: Vec<Cidr>,
}

impl Match {
    /// Matches every arrival.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether nothing is asked.
    pub fn is_everything(&self) -> bool {
        *self == Self::everything()
    }

    /// Whether something is asked that only an HTTP request can answer. Such a rule matches no TCP
    /// connection.
    pub fn is_http_only(&self) -> bool {
        self.cluster.is_some()
            || self.authority.is_some()
            || self.path_prefix.is_some()
            || !self.methods.is_empty()
    }

    /// Whether requests to this cluster match.
    pub fn has_cluster(&self, cluster: &str) -> bool {
        self.cluster.as_deref().is_none_or(|own| own == cluster)
    }

    /// Whether requests to this authority match; upper and lower case are the same.
    pub fn has_authority(&self, authority: &str) -> bool {
        self.authority
            .as_deref()
            .is_none_or(|own| own.eq_ignore_ascii_case(authority))
    }

    /// Whether requests for this path match.
    pub fn has_path(&self, path: &str) -> bool {
        self.path_prefix
            .as_deref()
            .is_none_or(|prefix| path.starts_with(prefix))
    }

    /// Whether requests with this method match; methods know upper and lower case.
    pub fn has_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own == method)
    }

    /// Whether arrivals at this port match.
    pub fn has_listener_port(&self, port: u16) -> bool {
        self.listener_port.is_none_or(|own| own.get() == port)
    }

    /// Whether arrivals from this address match.
    pub fn has_source(&self, address: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|range| range.contains(address))
    }
}

/// Who is a caller: what tells those apart that arrivals are counted by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// Nobody is told apart.
    None,
    /// The downstream's address, without its port.
    #[default]
    SourceIp,
    /// The URI in the downstream's certificate (mTLS).
    Peer,
    /// The name that the downstream asks for in its TLS handshake.
    Sni,
    /// HTTP: the authority (host) of the request.
    Authority,
    /// HTTP: the first header of this name, which is in lower case.
    Header(String),
    /// PostgreSQL: a parameter of the startup message, `user`, `database` or `application_name`.
    /// Only in a [`Build`](super::Build) that inspects, and where the connection is not encrypted.
    Postgres(&'static str),
}

/// Who is a user: what tells those apart that are served, or not, as long as only a share is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// The downstream's address, without its port.
    #[default]
    SourceIp,
    /// HTTP: the first header of this name, which is in lower case.
    Header(String),
    /// HTTP: the cookie of this name, which knows upper and lower case.
    Cookie(String),
    /// The caller, by the rule's [`Key`].
    Key,
}

/// Arrivals that are served before or after others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// As a rule's name: safe in a metric.
    pub name: String,
    /// Which arrivals are of it.
    pub matcher: ClassMatch,
    /// 0 is served first.
    pub priority: u8,
    /// Places of the rule's inflight limit that are its own, within [`bounds::RESERVED`].
    pub reserved: u32,
}

impl Class {
    /// The priority when none is given.
    pub(super) const PRIORITY: u8 = 1;
}

/// Which arrivals are of a class: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassMatch {
    /// The downstream's address is in one of these, at most [`bounds::LIST`]; empty for any.
    pub sources: Vec<Cidr>,
    /// HTTP: a header has exactly this value. A TCP connection has none, and does not match.
    pub header: Option<Header>,
}

impl ClassMatch {
    /// Whether nothing is asked.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// A header of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A token in lower case, or `:authority`; at most [`bounds::NAME_BYTES`].
    pub name: String,
    /// One line that is not empty, at most [`bounds::TEXT_BYTES`].
    pub value: String,
}

/// Where arrivals go that would be rejected otherwise: at least one of the two is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// TCP: another cluster, at most [`bounds::NAME_BYTES`]; not the one that connections are led
    /// to for their refusal. `None` when the rule's match is for HTTP only.
    pub cluster: Option<String>,
    /// HTTP: the header to set, by which a route is chosen. `None` when the rule's protocol is a
    /// database's.
    pub header: Option<Header>,
}

/// What is spoken over a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing that is understood here.
    #[default]
    Tcp,
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
}

/// How arrivals are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// HTTP: the status, within [`bounds::HTTP_STATUS`].
    pub http_status: u16,
    /// HTTP: when to try again; whole milliseconds within [`bounds::RETRY_AFTER`].
    pub retry_after: Duration,
    /// HTTP: the body, at most [`bounds::BODY_BYTES`].
    pub body: String,
    /// What happens to a TCP connection.
    pub tcp: TcpReject,
    /// How long the refusal of a hot caller is kept, within [`bounds::SLOW`]; `None` when it is
    /// refused at once, as over HTTP/2 and HTTP/3.
    pub slow: Option<Duration>,
    /// How many refusals are kept at most at once, within [`bounds::MAX_SLOW`].
    pub max_slow: u32,
}

impl Default for Reject {
    fn default() -> Self {
        Self {
            http_status: 503,
            retry_after: Duration::from_secs(2),
            body: String::from("upstream connection limit reached, retry later\n"),
            tcp: TcpReject::Close,
            slow: Some(Duration::from_secs(2)),
            max_slow: 4096,
        }
    }
}

/// How a TCP connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpReject {
    /// It is closed.
    Close,
    /// It gets the error message of its protocol, which is then PostgreSQL or MySQL. Only in a
    /// [`Build`](super::Build) that inspects.
    Protocol {
        /// The cluster such connections are led to, at most [`bounds::NAME_BYTES`].
        cluster: String,
    },
}

impl TcpReject {
    /// The cluster when none is given.
    pub(super) const CLUSTER: &'static str = "tidegate-refuse";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_name_is_short_and_safe_in_a_metric() {
        for name in ["a", "0", "orders-db", "a_b-9", &"x".repeat(63)] {
            assert_eq!(RuleName::new(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            "-a",
            "_a",
            "A",
            "a.b",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(64),
        ] {
            assert_eq!(RuleName::new(name), None, "{name}");
        }
    }

    #[test]
    fn where_nothing_is_asked_everything_matches() {
        let matcher = Match::everything();
        assert!(matcher.is_everything() && !matcher.is_http_only());
        assert!(matcher.has_cluster("") && matcher.has_authority("") && matcher.has_path(""));
        assert!(matcher.has_method("") && matcher.has_listener_port(0));
        assert!(matcher.has_source("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn each_question_is_about_one_fact() {
        let matcher = Match {
            cluster: Some("orders-db".to_string()),
            authority: Some("api.example".to_string()),
            path_prefix: Some("/v1/".to_string()),
            methods: Vec::from(["POST".to_string(), "PUT".to_string()]),
            listener_port: NonZeroU16::new(5432),
            sources: Vec::from([Cidr::parse("10.0.0.0/8").unwrap()]),
        };
        assert!(matcher.is_http_only() && !matcher.is_everything());
        assert!(matcher.has_cluster("orders-db") && !matcher.has_cluster("Orders-db"));
        assert!(matcher.has_authority("API.example") && !matcher.has_authority("api.example:80"));
        assert!(matcher.has_path("/v1/x") && !matcher.has_path("/v1"));
        assert!(matcher.has_method("PUT") && !matcher.has_method("put"));
        assert!(matcher.has_listener_port(5432) && !matcher.has_listener_port(5433));
        assert!(matcher.has_source("10.9.9.9".parse().unwrap()));
        assert!(!matcher.has_source("192.0.2.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_name_is_what_the_pattern_says(name in "[a-z0-9][a-z0-9_-]{0,62}") {
            prop_assert!(RuleName::new(&name).is_some());
        }
    }
}
