//! Who comes: the caller, the user and the class of an arrival, as far as a trace says.

use tidegate::{
    config::{Key, Rule, Sticky},
    engine::{Callers, Class},
    event::{Caller, Hundredths, Tenths},
};

use super::facts::Facts;

/// So many callers are named.
const NAMED: usize = 5;
/// The most of a key that is taken, in bytes.
const MAX_KEY: usize = 256;

/// What is known of an arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub caller: Option<Box<[u8]>>,
    /// None where the caller is the user, or nobody knows.
    pub user: Option<Box<[u8]>>,
    pub class: Class,
}

impl Known {
    /// By a rule: the trace's own `key` where it has one, else what the rule asks for.
    pub fn of(rule: &Rule, key: Option<&str>, facts: &Facts<'_>) -> Self {
        let source = || Some(facts.source?.to_string());
        let header = |name: &str| match name {
            ":authority" => facts.authority.as_deref().map(str::to_owned),
            _ => None,
        };
        let caller = match (&rule.key, key) {
            (Key::None, _) => None,
            (_, Some(key)) => Some(key.to_owned()),
            (Key::SourceIp, _) => source(),
            (Key::Authority, _) => header(":authority"),
            (Key::Header(name), _) => header(name),
            _ => None,
        };
        let user = match &rule.sticky {
            // The trace's key is the address then.
            Sticky::SourceIp if rule.key == Key::SourceIp => None,
            Sticky::SourceIp => source(),
            Sticky::Header(name) => header(name),
            Sticky::Key | Sticky::Cookie(_) => None,
        };
        let user = user.filter(|user| Some(user) != caller.as_ref());
        Self {
            caller: caller.map(cut),
            user: user.map(cut),
            class: class(rule, facts),
        }
    }
}

fn cut(key: String) -> Box<[u8]> {
    let mut key = key.into_bytes();
    key.truncate(MAX_KEY);
    key.into()
}

/// The first class that an arrival is of. What asks for a header is of none, but for `:authority`.
fn class(rule: &Rule, facts: &Facts<'_>) -> Class {
    let mut classes = rule.classes.iter().zip(0..);
    let found = classes.find(|(class, _)| {
        let (sources, header) = (&class.matcher.sources, &class.matcher.header);
        let source = sources.is_empty()
            || facts
                .source
                .is_some_and(|address| sources.iter().any(|range| range.contains(address)));
        let header = header.as_ref().is_none_or(|wanted| {
            wanted.name == ":authority" && facts.authority.as_deref() == Some(&*wanted.value)
        });
        source && header
    });
    found.map_or_else(Class::default, |(class, index)| Class {
        index,
        priority: class.priority,
    })
}

/// Who makes a surge that goes on now; nobody where the trace names nobody.
pub fn culprits(callers: &Callers) -> (Option<&'static str>, Vec<Caller>) {
    if callers.is_empty() {
        return (None, Vec::new());
    }
    let named = callers.by_excess().into_iter().take(NAMED);
    let named = named.map(|caller| Caller {
        key: String::from_utf8_lossy(caller.key).into_owned(),
        rate_per_s: Tenths(caller.rate_per_s),
        baseline_per_s: Tenths(caller.baseline_per_s),
        share: Hundredths(caller.share),
    });
    (Some(callers.spread().name()), named.collect())
}
