//! What rules may ask about an arrival.

use alloc::{string::String, vec::Vec};
use core::{
    cell::{OnceCell, RefCell},
    net::IpAddr,
};

use super::host;
use crate::{config, protocol::address};

/// HTTP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Tcp,
}

/// A header and its value.
type Header<'a> = (&'a str, Option<Vec<u8>>);

/// What rules may ask about an arrival. Each fact is fetched when it is asked for first, which costs
/// about 1 µs, and once.
pub struct Facts<'a> {
    kind: Kind,
    cluster: OnceCell<Option<String>>,
    authority: OnceCell<Option<String>>,
    path: OnceCell<Option<String>>,
    method: OnceCell<Option<String>>,
    listener_port: OnceCell<Option<u16>>,
    /// `address:port`, or the path of a Unix socket.
    source: OnceCell<Option<Vec<u8>>>,
    address: OnceCell<Option<IpAddr>>,
    /// Those that were asked for; a rule names a few.
    headers: RefCell<Vec<Header<'a>>>,
}

impl<'a> Facts<'a> {
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
            address: OnceCell::new(),
            headers: RefCell::default(),
        }
    }

    /// HTTP or TCP.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The downstream's address without its port, as a key.
    pub fn source_key(&self) -> Option<Vec<u8>> {
        Some(address::without_port(self.source_text()?).to_vec())
    }

    fn source_text(&self) -> Option<&[u8]> {
        self.source
            .get_or_init(|| host::property("source\0address"))
            .as_deref()
    }

    /// A header of a request, its first value; a connection has none.
    pub fn header(&self, name: &'a str) -> Option<Vec<u8>> {
        self.with_header(name, |value| value.map(<[u8]>::to_vec))
    }

    /// Looks at a header of a request.
    pub fn with_header<R>(&self, name: &'a str, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
        if self.kind != Kind::Http {
            return look(None);
        }
        let mut headers = self.headers.borrow_mut();
        if let Some((_, value)) = headers.iter().find(|(known, _)| *known == name) {
            return look(value.as_deref());
        }
        let value = host::request_header(name);
        let answer = look(value.as_deref());
        headers.push((name, value));
        answer
    }
}

impl config::Facts for Facts<'_> {
    fn is_http(&self) -> bool {
        self.kind == Kind::Http
    }

    fn listener_port(&self) -> Option<u16> {
        *self.listener_port.get_or_init(|| {
            let bytes = host::property("destination\0port")?;
            let port = i64::from_le_bytes(bytes.try_into().ok()?);
            u16::try_from(port).ok()
        })
    }

    fn source(&self) -> Option<IpAddr> {
        *self
            .address
            .get_or_init(|| address::ip(self.source_text()?))
    }

    fn cluster(&self) -> Option<&str> {
        text(&self.cluster, || host::property("xds\0cluster_name"))
    }

    fn authority(&self) -> Option<&str> {
        text(&self.authority, || host::request_header(":authority"))
    }

    fn method(&self) -> Option<&str> {
        text(&self.method, || host::request_header(":method"))
    }

    fn path(&self) -> Option<&str> {
        text(&self.path, || host::request_header(":path"))
    }
}

/// A text that no rule can match when it is not UTF-8, so that it counts as missing then.
fn text(cell: &OnceCell<Option<String>>, fetch: impl FnOnce() -> Option<Vec<u8>>) -> Option<&str> {
    cell.get_or_init(|| String::from_utf8(fetch()?).ok())
        .as_deref()
}
