//! Who comes: the caller, the user and the class of an arrival.

use alloc::{format, vec::Vec};

use super::{
    host::{self, SharedData},
    matching::{Facts, Kind},
    peers,
};
use crate::{
    config::{Facts as _, Key, Rule, Sticky},
    engine::{Class, Wanted},
    protocol::http,
    store::{self, PREFIX},
};

/// The longest header or name that is taken for a key, in bytes.
const MAX_KEY: usize = 256;

/// What is known of an arrival, as far as it was asked.
#[derive(Debug, Default)]
pub struct Known {
    pub caller: Option<Vec<u8>>,
    /// Where the caller is only known later.
    pub instead: Option<Vec<u8>>,
    pub user: Option<Vec<u8>>,
    pub class: Class,
}

impl Known {
    /// Asks the host about the stream of the effective context, which is just beginning.
    pub fn ask<'a>(rule: &'a Rule, wanted: Wanted, facts: &Facts<'a>) -> Self {
        let asked = wanted.caller > 0;
        let later = is_known_later(&rule.key, facts.kind());
        let caller = (asked && !later)
            .then(|| caller(&rule.key, facts))
            .flatten();
        Self {
            caller: caller.map(cut),
            instead: (asked && later).then(|| facts.source_key()).flatten(),
            user: wanted.user.then(|| user(rule, facts)).flatten(),
            class: class(rule, facts),
        }
    }
}

/// The user that a rule tells apart, cut to what is taken for a key.
pub fn user<'a>(rule: &'a Rule, facts: &Facts<'a>) -> Option<Vec<u8>> {
    let user = match &rule.sticky {
        // The gate takes the caller where no user is named.
        Sticky::Key => None,
        Sticky::SourceIp => facts.source_key(),
        Sticky::Header(name) => facts.header(name),
        Sticky::Cookie(name) => facts
            .header("cookie")
            .and_then(|cookies| http::cookie(&cookies, name.as_bytes()).map(<[u8]>::to_vec)),
    };
    user.map(cut)
}

fn cut(mut key: Vec<u8>) -> Vec<u8> {
    key.truncate(MAX_KEY);
    key
}

/// Whether a stream's caller is not known when it begins, but is shown soon: a connection begins
/// before its TLS handshake.
pub fn is_shown_later(key: &Key, kind: Kind) -> bool {
    *key == Key::Peer && kind == Kind::Tcp
}

/// Whether a stream's caller is not known when it begins: it is in its first message, or shown soon.
/// Until then its address stands for it.
fn is_known_later(key: &Key, kind: Kind) -> bool {
    matches!(key, Key::Postgres(_)) || is_shown_later(key, kind)
}

/// What a rule's key says of an arrival; a missing one is a caller, too, without a name.
fn caller<'a>(key: &'a Key, facts: &Facts<'a>) -> Option<Vec<u8>> {
    let found = match key {
        // What is in the first message is counted when it comes.
        Key::None | Key::Postgres(_) => return None,
        Key::SourceIp => facts.source_key(),
        Key::Peer => peers::peer(),
        Key::Sni => host::property("connection\0requested_server_name"),
        Key::Authority => facts.header(":authority"),
        Key::Header(name) => facts.header(name),
    };
    Some(found.unwrap_or_default())
}

/// The first class that an arrival is of.
fn class<'a>(rule: &'a Rule, facts: &Facts<'a>) -> Class {
    let found = rule.classes.iter().position(|class| {
        let matcher = &class.matcher;
        let source = || {
            matcher.sources.is_empty()
                || facts
                    .source()
                    .is_some_and(|address| matcher.sources.iter().any(|r| r.contains(address)))
        };
        let header = || {
            matcher.header.as_ref().is_none_or(|wanted| {
                facts.with_header(&wanted.name, |value| value == Some(wanted.value.as_bytes()))
            })
        };
        source() && header()
    });
    // At most MAX_CLASSES of them exist.
    found.map_or_else(Class::default, |index| class_at(rule, index as u8))
}

/// The class at that place of a rule, or that of an arrival that no class is for.
pub fn class_at(rule: &Rule, index: u8) -> Class {
    let class = rule.classes.get(usize::from(index));
    class.map_or_else(Class::default, |class| Class {
        index,
        priority: class.priority,
    })
}

/// The seed that all workers hash callers with, so that an outsider can't choose who collides, nor
/// which users are served in a surge.
///
/// Drawn once. From the clock alone it could be found by trying all nanoseconds of a second, so that
/// is only for a host that gives nothing random.
pub fn seed() -> [u64; 2] {
    let first = || {
        let random = host::random().map(Vec::from);
        random.unwrap_or_else(|| {
            let nanos = host::now().as_nanos();
            [nanos, nanos.rotate_left(32)]
                .map(u64::to_le_bytes)
                .concat()
        })
    };
    store::update(&mut SharedData, &format!("{PREFIX}/seed"), first, |seed| {
        let halves = seed.first_chunk().zip(seed.last_chunk());
        let seed = halves.map_or([0; 2], |(a, b)| [*a, *b].map(u64::from_le_bytes));
        (None, seed)
    })
    .unwrap_or_default()
}
