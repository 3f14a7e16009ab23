//! Which rule an arrival falls under.

use alloc::{string::String, vec::Vec};
use core::{cell::OnceCell, net::IpAddr};
use std::net::SocketAddr;

use super::host;
use crate::config::{Match, Rule};

/// HTTP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Tcp,
}

/// What rules may ask about an arrival. Each fact is fetched when the first rule asks, and once.
pub struct Facts {
    kind: Kind,
    cluster: OnceCell<Option<String>>,
    authority: OnceCell<Option<String>>,
    path: OnceCell<Option<String>>,
    method: OnceCell<Option<String>>,
    listener_port: OnceCell<Option<u16>>,
    /// `address:port`, or the path of a Unix socket.
    source: OnceCell<Option<Vec<u8>>>,
}

impl Facts {
    /// About the stream of the effective context, which is just beginning.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            cluster: OnceCell::new(),
            authority: OnceCell::new(),
            path: OnceCell::new(),
            method: OnceCell::new(),
            listener_port: OnceCell::new(),
            source: OnceCell::new(),
        }
    }

    /// The first rule that holds.
    ///
    /// A rule without conditions costs nothing; a fact that a rule asks for costs about 1 µs.
    pub fn first_match(&self, rules: impl Iterator<Item = impl AsRef<Rule>>) -> Option<usize> {
        let mut rules = rules;
        rules.position(|rule| self.fits(&rule.as_ref().matcher))
    }

    fn fits(&self, matcher: &Match) -> bool {
        if matcher.is_everything() {
            return true;
        }
        if self.kind == Kind::Tcp && matcher.is_http_only() {
            return false;
        }
        // The cheap and selective ones first.
        let port = matcher.listener_port.is_none()
            || self
                .listener_port()
                .is_some_and(|port| matcher.has_listener_port(port));
        let source = || {
            matcher.sources.is_empty()
                || self
                    .source()
                    .is_some_and(|address| matcher.has_source(address))
        };
        let text = |wanted: bool, fact: &dyn Fn() -> Option<bool>| !wanted || fact() == Some(true);
        port && source()
            && text(matcher.cluster.is_some(), &|| {
                self.text(&self.cluster, || host::property("xds\0cluster_name"))
                    .map(|cluster| matcher.has_cluster(cluster))
            })
            && text(matcher.authority.is_some(), &|| {
                self.text(&self.authority, || host::request_header(":authority"))
                    .map(|authority| matcher.has_authority(authority))
            })
            && text(!matcher.methods.is_empty(), &|| {
                self.text(&self.method, || host::request_header(":method"))
                    .map(|method| matcher.has_method(method))
            })
            && text(matcher.path_prefix.is_some(), &|| {
                self.text(&self.path, || host::request_header(":path"))
                    .map(|path| matcher.has_path(path))
            })
    }

    /// A text that no rule can match when it is not UTF-8, so that it counts as missing then.
    fn text<'a>(
        &self,
        cell: &'a OnceCell<Option<String>>,
        fetch: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<&'a str> {
        cell.get_or_init(|| fetch().and_then(|bytes| String::from_utf8(bytes).ok()))
            .as_deref()
    }

    fn listener_port(&self) -> Option<u16> {
        *self.listener_port.get_or_init(|| {
            let bytes = host::property("destination\0port")?;
            let port = i64::from_le_bytes(bytes.try_into().ok()?);
            u16::try_from(port).ok()
        })
    }

    /// The downstream's address.
    pub fn source(&self) -> Option<IpAddr> {
        let text = core::str::from_utf8(self.source_text()?).ok()?;
        text.parse::<SocketAddr>().ok().map(|address| address.ip())
    }

    /// The downstream's address without its port, as a key.
    pub fn source_key(&self) -> Option<Vec<u8>> {
        let text = self.source_text()?;
        let colon = text.iter().rposition(|&byte| byte == b':');
        // A path of a Unix socket has no port.
        Some(text.get(..colon.unwrap_or(text.len()))?.to_vec())
    }

    fn source_text(&self) -> Option<&[u8]> {
        self.source
            .get_or_init(|| host::property("source\0address"))
            .as_deref()
    }

    /// HTTP or TCP.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}
