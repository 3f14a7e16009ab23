//! Which rule an arrival falls under, at the same cost for 64 rules as for one.

use alloc::{string::String, vec::Vec};
use core::{cmp::Ordering, net::IpAddr};

use super::{Cidr, Match, Rule, bounds};

/// What rules may ask about an arrival. Each is asked at most once, and only if the answer may
/// decide which rule it is.
pub trait Facts {
    /// An HTTP request, and no TCP connection.
    fn is_http(&self) -> bool;
    /// The port that the downstream connected to.
    fn listener_port(&self) -> Option<u16>;
    /// The downstream's address.
    fn source(&self) -> Option<IpAddr>;
    /// HTTP: the name of the upstream cluster.
    fn cluster(&self) -> Option<&str>;
    /// HTTP: the authority (host).
    fn authority(&self) -> Option<&str>;
    /// HTTP: the method.
    fn method(&self) -> Option<&str>;
    /// HTTP: the path.
    fn path(&self) -> Option<&str>;
}

/// Finds the first rule whose [`Match`] holds, without asking one after the other.
///
/// For each fact there is a table from its values to the set of rules that accept them, in one
/// word; the rule is the first in the intersection (Lakshman and Stiliadis, 1998). A fact is
/// fetched when the first rule that is left asks for it: once, and none that asking rule after rule
/// would not fetch.
///
/// Cost: seven steps at most, and for each fact a binary search among what the rules name; for a path
/// one comparison more for each prefix that lies in another. Memory: what they name, and for each
/// range of addresses up to 64 bytes.
#[derive(Clone, Debug, Default)]
pub struct RuleIndex {
    all: Set,
    http_only: Set,
    /// Which facts each rule asks.
    asks: Vec<Asks>,
    ports: Table<u16>,
    sources: Ranges,
    clusters: Table<String>,
    authorities: Table<String>,
    methods: Table<String>,
    paths: Prefixes,
}

/// Rules, one bit each.
type Set = u64;

const _: () = assert!(bounds::RULES <= Set::BITS as usize);

/// Facts, one bit each; the cheap and selective ones first.
type Asks = u8;

const PORT: Asks = 1;
const SOURCE: Asks = 1 << 1;
const CLUSTER: Asks = 1 << 2;
const AUTHORITY: Asks = 1 << 3;
const METHOD: Asks = 1 << 4;
const PATH: Asks = 1 << 5;

impl RuleIndex {
    /// Of the rules of a configuration, in their order.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut index = Self::default();
        let mut ranges = Vec::new();
        let mut prefixes = Table::default();
        for (place, rule) in rules.into_iter().take(bounds::RULES).enumerate() {
            let (set, matcher): (Set, &Match) = (1 << place, &rule.matcher);
            index.all |= set;
            if matcher.is_http_only() {
                index.http_only |= set;
            }
            let port = matcher.listener_port.map(|port| port.get());
            let authority = matcher.authority.as_deref().map(str::to_ascii_lowercase);
            let sources = matcher.sources.iter().map(|range| (*range, set));
            ranges.extend(sources);
            let asks = [
                (PORT, index.ports.add(port, set)),
                (SOURCE, !matcher.sources.is_empty()),
                (CLUSTER, index.clusters.add(matcher.cluster.clone(), set)),
                (AUTHORITY, index.authorities.add(authority, set)),
                (METHOD, index.methods.add(matcher.methods.clone(), set)),
                (PATH, prefixes.add(matcher.path_prefix.clone(), set)),
            ];
            let asks = asks.iter().filter(|(_, asked)| *asked);
            index.asks.push(asks.fold(0, |all, (fact, _)| all | fact));
        }
        index.sources = Ranges::new(&ranges);
        index.paths = Prefixes::new(prefixes);
        index
    }

    /// The place of the first rule that holds.
    pub fn first(&self, facts: &impl Facts) -> Option<usize> {
        let mut left = self.all;
        if !facts.is_http() {
            left &= !self.http_only;
        }
        let mut known: Asks = 0;
        while left != 0 {
            let rule = left.trailing_zeros() as usize;
            let open = self.asks.get(rule)? & !known;
            if open == 0 {
                return Some(rule);
            }
            let fact = open & open.wrapping_neg();
            known |= fact;
            left &= self.holding(fact, facts);
        }
        None
    }

    /// The rules that do not ask a fact, or accept what it is.
    fn holding(&self, fact: Asks, facts: &impl Facts) -> Set {
        match fact {
            PORT => self
                .ports
                .get(facts.listener_port(), |own, port| own.cmp(port)),
            SOURCE => self.sources.get(facts.source()),
            CLUSTER => self.clusters.of_text(facts.cluster()),
            AUTHORITY => self.authority(facts.authority()),
            METHOD => self.methods.of_text(facts.method()),
            _ => self.paths.get(facts.path()),
        }
    }

    /// The names are in lower case here, and nearly always there.
    fn authority(&self, name: Option<&str>) -> Set {
        let upper = name.is_some_and(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()));
        let lower = name.filter(|name| upper && name.len() <= bounds::NAME_BYTES);
        match lower.map(str::to_ascii_lowercase) {
            Some(lower) => self.authorities.of_text(Some(&lower)),
            None => self.authorities.of_text(name),
        }
    }
}

/// Which rules accept a value.
#[derive(Clone, Debug)]
struct Table<K> {
    /// In their order.
    values: Vec<(K, Set)>,
    /// The rules that name some.
    asking: Set,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            asking: 0,
        }
    }
}

impl<K: Ord> Table<K> {
    /// A rule names these; whether there are any.
    fn add(&mut self, values: impl IntoIterator<Item = K>, rule: Set) -> bool {
        for value in values {
            self.asking |= rule;
            match self.values.binary_search_by(|(own, _)| own.cmp(&value)) {
                Ok(place) => {
                    if let Some((_, rules)) = self.values.get_mut(place) {
                        *rules |= rule;
                    }
                }
                Err(place) => self.values.insert(place, (value, rule)),
            }
        }
        self.asking & rule != 0
    }

    fn get<T>(&self, value: Option<T>, order: impl Fn(&K, &T) -> Ordering) -> Set {
        let found = value.and_then(|value| {
            let place = self.values.binary_search_by(|(own, _)| order(own, &value));
            Some(self.values.get(place.ok()?)?.1)
        });
        !self.asking | found.unwrap_or(0)
    }
}

impl Table<String> {
    fn of_text(&self, text: Option<&str>) -> Set {
        self.get(text, |own, text| own.as_str().cmp(text))
    }
}

/// Which rules accept a path.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    /// In their order, with the rules of all prefixes of a prefix, and with the longest of these.
    prefixes: Vec<(String, Set, Option<usize>)>,
    asking: Set,
}

impl Prefixes {
    fn new(table: Table<String>) -> Self {
        let mut prefixes: Vec<(String, Set, Option<usize>)> = Vec::new();
        for (text, rules) in table.values {
            // In order, a prefix of a text is the text before it, or a prefix of that.
            let mut before = prefixes.len().checked_sub(1);
            let within = loop {
                let Some(place) = before else { break None };
                match prefixes.get(place) {
                    Some((own, rules, _)) if text.starts_with(own.as_str()) => {
                        break Some((place, *rules));
                    }
                    other => before = other.and_then(|(.., within)| *within),
                }
            };
            let (within, all) = within.map_or((None, 0), |(place, rules)| (Some(place), rules));
            prefixes.push((text, rules | all, within));
        }
        Self {
            prefixes,
            asking: table.asking,
        }
    }

    fn get(&self, path: Option<&str>) -> Set {
        !self.asking | path.map_or(0, |path| self.accepting(path))
    }

    /// The rules with a prefix of `path`.
    fn accepting(&self, path: &str) -> Set {
        let after = self
            .prefixes
            .partition_point(|(own, ..)| own.as_str() <= path);
        // All prefixes of the path are prefixes of the one before it, or that one.
        let mut place = after.checked_sub(1);
        while let Some((own, rules, within)) = place.and_then(|place| self.prefixes.get(place)) {
            if path.starts_with(own.as_str()) {
                return *rules;
            }
            place = *within;
        }
        0
    }
}

/// Which rules accept an address.
#[derive(Clone, Debug, Default)]
struct Ranges {
    v4: Steps,
    v6: Steps,
    asking: Set,
}

/// From each of these addresses on, up to the next, these rules have a range that holds it.
type Steps = Vec<(u128, Set)>;

impl Ranges {
    fn new(ranges: &[(Cidr, Set)]) -> Self {
        let of = |v4: bool| {
            let ranges = ranges.iter().filter(|(range, _)| range.is_ipv4() == v4);
            steps(
                ranges
                    .map(|(range, rules)| (range.ends(), *rules))
                    .collect(),
            )
        };
        Self {
            v4: of(true),
            v6: of(false),
            asking: ranges.iter().fold(0, |all, (_, rule)| all | rule),
        }
    }

    fn get(&self, address: Option<IpAddr>) -> Set {
        let found = address.and_then(|address| {
            let (steps, address) = match address.to_canonical() {
                IpAddr::V4(address) => (&self.v4, u128::from(address.to_bits())),
                IpAddr::V6(address) => (&self.v6, address.to_bits()),
            };
            let after = steps.partition_point(|(from, _)| *from <= address);
            Some(steps.get(after.checked_sub(1)?)?.1)
        });
        !self.asking | found.unwrap_or(0)
    }
}

/// Two ranges are apart, or one lies in the other.
fn steps(mut ranges: Vec<((u128, u128), Set)>) -> Steps {
    fn step(steps: &mut Steps, at: u128, rules: Set) {
        match steps.last_mut() {
            Some((from, last)) if *from == at => *last = rules,
            _ => steps.push((at, rules)),
        }
    }
    // Ends those that are behind, the innermost first.
    fn end(open: &mut Vec<(u128, Set)>, steps: &mut Steps, before: Option<u128>) {
        while let Some((last, _)) = open.pop_if(|(last, _)| before.is_none_or(|at| *last < at)) {
            let rules = open.last().map_or(0, |(_, rules)| *rules);
            if let Some(next) = last.checked_add(1) {
                step(steps, next, rules);
            }
        }
    }
    // The one that holds another comes before it.
    ranges.sort_by(|((a, a_last), _), ((b, b_last), _)| a.cmp(b).then(b_last.cmp(a_last)));
    let (mut steps, mut open) = (Steps::new(), Vec::new());
    for ((first, last), rules) in ranges {
        end(&mut open, &mut steps, Some(first));
        let rules = rules | open.last().map_or(0, |(_, rules)| *rules);
        step(&mut steps, first, rules);
        open.push((last, rules));
    }
    end(&mut open, &mut steps, None);
    steps
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};
    use core::{cell::Cell, net::Ipv4Addr, num::NonZeroU16};

    use proptest::{collection::vec, option, prelude::*, sample::select};
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::engine::Mode;

    /// An arrival that notes what it is asked.
    #[derive(Clone, Debug, Default)]
    struct Arrival {
        http: bool,
        port: Option<u16>,
        source: Option<IpAddr>,
        cluster: Option<&'static str>,
        authority: Option<&'static str>,
        method: Option<&'static str>,
        path: Option<&'static str>,
        asked: [Cell<u32>; 6],
    }

    impl Arrival {
        fn told<T>(&self, fact: usize, value: T) -> T {
            self.asked[fact].set(self.asked[fact].get() + 1);
            value
        }

        fn asked(&self) -> [u32; 6] {
            self.asked.each_ref().map(Cell::take)
        }
    }

    impl Facts for Arrival {
        fn is_http(&self) -> bool {
            self.http
        }
        fn listener_port(&self) -> Option<u16> {
            self.told(0, self.port)
        }
        fn source(&self) -> Option<IpAddr> {
            self.told(1, self.source)
        }
        fn cluster(&self) -> Option<&str> {
            self.told(2, self.cluster)
        }
        fn authority(&self) -> Option<&str> {
            self.told(3, self.authority)
        }
        fn method(&self) -> Option<&str> {
            self.told(4, self.method)
        }
        fn path(&self) -> Option<&str> {
            self.told(5, self.path)
        }
    }

    /// Asks one rule after the other.
    fn one_by_one(matchers: &[Match], facts: &Arrival) -> Option<usize> {
        matchers.iter().position(|matcher| {
            let has =
                |asked: bool, holds: &dyn Fn() -> Option<bool>| !asked || holds() == Some(true);
            (facts.is_http() || !matcher.is_http_only())
                && has(matcher.listener_port.is_some(), &|| {
                    Some(matcher.has_listener_port(facts.listener_port()?))
                })
                && has(!matcher.sources.is_empty(), &|| {
                    Some(matcher.has_source(facts.source()?))
                })
                && has(matcher.cluster.is_some(), &|| {
                    Some(matcher.has_cluster(facts.cluster()?))
                })
                && has(matcher.authority.is_some(), &|| {
                    Some(matcher.has_authority(facts.authority()?))
                })
                && has(!matcher.methods.is_empty(), &|| {
                    Some(matcher.has_method(facts.method()?))
                })
                && has(matcher.path_prefix.is_some(), &|| {
                    Some(matcher.has_path(facts.path()?))
                })
        })
    }

    fn index(matchers: &[Match]) -> RuleIndex {
        let rules: Vec<Rule> = matchers
            .iter()
            .map(|matcher| Rule {
                matcher: matcher.clone(),
                ..Rule::default_in(Mode::Shadow)
            })
            .collect();
        RuleIndex::new(&rules)
    }

    /// Few values of each kind, so that many rules name the same and arrivals meet them.
    const TEXTS: [&str; 5] = ["", "a", "A", "b.example", "B.example"];
    const PATHS: [&str; 9] = [
        "", "/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/b", "/\u{e4}",
    ];

    fn text() -> impl Strategy<Value = Option<&'static str>> {
        option::of(select(&TEXTS[..]))
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let bits = prop_oneof![
            0..4_u32,
            250..260_u32,
            (u32::MAX - 3)..=u32::MAX,
            any::<u32>()
        ];
        let v4 = bits.prop_map(Ipv4Addr::from_bits);
        (v4, 0..3).prop_map(|(v4, kind)| match kind {
            0 => v4.into(),
            1 => v4.to_ipv6_mapped().into(),
            // The last ones, too.
            _ => core::net::Ipv6Addr::from_bits(u128::from(v4.to_bits()) << 96 | 0xffff).into(),
        })
    }

    fn range() -> impl Strategy<Value = Cidr> {
        (address(), any::<u8>()).prop_map(|(address, prefix)| {
            let address = address.to_canonical();
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let first = super::super::cidr::network(address, prefix % (bits + 1));
            Cidr::parse(&format!("{first}/{}", prefix % (bits + 1))).unwrap()
        })
    }

    fn matcher() -> impl Strategy<Value = Match> {
        let texts = (text(), text(), option::of(select(&PATHS[1..])));
        let ports = option::of((1..4_u16).prop_map(|port| NonZeroU16::new(port).unwrap()));
        (
            texts,
            vec(select(&TEXTS[..]), 0..2),
            ports,
            vec(range(), 0..4),
        )
            .prop_map(
                |((cluster, authority, path), methods, listener_port, sources)| Match {
                    cluster: cluster.map(str::to_string),
                    authority: authority.map(str::to_string),
                    path_prefix: path.map(str::to_string),
                    methods: methods.into_iter().map(str::to_string).collect(),
                    listener_port,
                    sources,
                },
            )
    }

    fn arrival() -> impl Strategy<Value = Arrival> {
        let texts = (text(), text(), text(), option::of(select(&PATHS[..])));
        let port = option::of(0..5_u16);
        (any::<bool>(), port, option::of(address()), texts).prop_map(
            |(http, port, source, (cluster, authority, method, path))| Arrival {
                http,
                port,
                source,
                cluster,
                authority,
                method,
                path,
                ..Arrival::default()
            },
        )
    }

    #[test]
    fn without_rules_there_is_none() {
        let http = Arrival {
            http: true,
            ..Arrival::default()
        };
        assert_eq!(index(&[]).first(&http), None);
    }

    #[test]
    fn where_nothing_is_asked_nothing_is_fetched() {
        let arrival = Arrival::default();
        let index = index(&[Match::everything()]);
        assert_eq!(index.first(&arrival), Some(0));
        assert_eq!(arrival.asked(), [0; 6]);
    }

    #[test]
    fn the_last_of_64_rules_is_found_with_one_fact() {
        let matchers: Vec<Match> = (1..=64)
            .map(|port| Match {
                listener_port: NonZeroU16::new(port),
                ..Match::default()
            })
            .collect();
        let arrival = Arrival {
            port: Some(64),
            ..Arrival::default()
        };
        assert_eq!(index(&matchers).first(&arrival), Some(63));
        assert_eq!(arrival.asked(), [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_ends_of_both_families_are_in_range() {
        let all = ["0.0.0.0/0", "::/0"].map(|range| Match {
            sources: Vec::from([Cidr::parse(range).unwrap()]),
            ..Match::default()
        });
        let index = index(&all);
        for (address, rule) in [
            ("0.0.0.0", 0),
            ("255.255.255.255", 0),
            ("::ffff:255.255.255.255", 0),
            ("::", 1),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1),
        ] {
            let arrival = Arrival {
                source: Some(address.parse().unwrap()),
                ..Arrival::default()
            };
            assert_eq!(index.first(&arrival), Some(rule), "{address}");
        }
    }

    proptest! {
        #[test]
        fn the_rule_is_that_of_asking_one_by_one_and_no_fact_more_is_fetched(
            matchers in vec(matcher(), 0..=64),
            arrivals in vec(arrival(), 1..20),
        ) {
            let index = index(&matchers);
            for arrival in &arrivals {
                let expected = one_by_one(&matchers, arrival);
                let most = arrival.asked().map(|times| times.min(1));
                prop_assert_eq!(index.first(arrival), expected, "{:?}", arrival);
                let asked = arrival.asked();
                let no_more = asked.iter().zip(most).all(|(asked, most)| *asked <= most);
                prop_assert!(no_more, "{:?} of {:?}", asked, most);
            }
        }

        #[test]
        fn rules_of_one_fact_are_found_however_they_overlap(
            sources in vec(vec(range(), 1..4), 1..=64),
            addresses in vec(address(), 1..20),
        ) {
            let matchers: Vec<Match> = sources
                .into_iter()
                .map(|sources| Match { sources, ..Match::default() })
                .collect();
            let index = index(&matchers);
            for address in addresses {
                let arrival = Arrival { source: Some(address), ..Arrival::default() };
                prop_assert_eq!(index.first(&arrival), one_by_one(&matchers, &arrival));
            }
        }
    }
}
