//! Which rule an arrival falls under: the index finds what asking one rule after the other does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};
use tidegate::config::{self, Build, Facts, Match, RuleIndex};

/// An arrival, as far as rules may ask.
#[derive(Debug)]
struct Arrival {
    http: bool,
    port: Option<u16>,
    source: Option<IpAddr>,
    /// The cluster, the authority, the method and the path.
    texts: [Option<String>; 4],
}

impl Facts for Arrival {
    fn is_http(&self) -> bool {
        self.http
    }

    fn listener_port(&self) -> Option<u16> {
        self.port
    }

    fn source(&self) -> Option<IpAddr> {
        self.source
    }

    fn cluster(&self) -> Option<&str> {
        self.texts[0].as_deref()
    }

    fn authority(&self) -> Option<&str> {
        self.texts[1].as_deref()
    }

    fn method(&self) -> Option<&str> {
        self.texts[2].as_deref()
    }

    fn path(&self) -> Option<&str> {
        self.texts[3].as_deref()
    }
}

/// The bytes choose rules, and arrivals that may match them.
pub fn run(data: &[u8]) {
    let _ = ask(&mut Unstructured::new(data));
}

fn ask(u: &mut Unstructured<'_>) -> Result<()> {
    let count = u.int_in_range(1..=8)?;
    let mut rules = Vec::new();
    for index in 0..count {
        rules.push(json!({"name": format!("r{index}"), "match": matcher(u)?}));
    }
    let text = json!({ "rules": rules }).to_string();
    let Ok(policy) = config::parse(text.as_bytes(), Build { inspect: true }) else {
        return Ok(());
    };
    let index = RuleIndex::new(policy.rules());
    for _ in 0..4 {
        let arrival = arrival(u)?;
        let naive = policy
            .rules()
            .iter()
            .position(|rule| holds(&rule.matcher, &arrival));
        assert_eq!(index.first(&arrival), naive, "{arrival:?} by {text}");
    }
    Ok(())
}

fn matcher(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut matcher = json!({});
    let asked: u8 = u.arbitrary()?;
    for (bit, name) in ["cluster", "authority", "path_prefix"]
        .into_iter()
        .enumerate()
    {
        if asked & 1 << bit != 0 {
            matcher[name] = word(u)?.into();
        }
    }
    if asked & 8 != 0 {
        matcher["method"] = json!([word(u)?, "GET"]);
    }
    if asked & 16 != 0 {
        matcher["listener_port"] = u.int_in_range(1..=4)?.into();
    }
    if asked & 32 != 0 {
        let address = address(u)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = u.int_in_range(0..=most)?;
        // The first address of the range, which is what is to be written.
        let first = match address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                IpAddr::from(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                IpAddr::from(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        matcher["source"] = json!([format!("{first}/{prefix}"), "10.0.0.0/8"]);
    }
    Ok(matcher)
}

fn arrival(u: &mut Unstructured<'_>) -> Result<Arrival> {
    let there: u8 = u.arbitrary()?;
    let mut texts = [const { None }; 4];
    for (bit, text) in texts.iter_mut().enumerate() {
        if there & 1 << bit != 0 {
            *text = Some(word(u)?);
        }
    }
    Ok(Arrival {
        http: there & 16 != 0,
        port: (there & 32 != 0).then_some(u.int_in_range(0..=5)?),
        source: if there & 64 != 0 {
            Some(address(u)?)
        } else {
            None
        },
        texts,
    })
}

/// A text that may be the beginning of another.
fn word(u: &mut Unstructured<'_>) -> Result<String> {
    const PIECES: [&str; 8] = ["/", "v1", "/v1/", "GET", "get", "a", "A.example", "ä"];
    let mut word = String::new();
    for _ in 0..u.int_in_range(0..=3)? {
        word += u.choose(&PIECES)?;
    }
    Ok(word)
}

/// An address that is often in a range with another.
fn address(u: &mut Unstructured<'_>) -> Result<IpAddr> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Ipv4Addr::from_bits(u.arbitrary()?).into(),
        1 => Ipv4Addr::new(10, u.arbitrary()?, 0, u.arbitrary()?).into(),
        2 => Ipv4Addr::new(10, 0, 0, u.arbitrary()?)
            .to_ipv6_mapped()
            .into(),
        _ => Ipv6Addr::from_bits(u.arbitrary()?).into(),
    })
}

/// As the documentation of [`Match`] says it.
fn holds(matcher: &Match, arrival: &Arrival) -> bool {
    let text = |nth: usize| arrival.texts[nth].as_deref();
    let http = |given: bool, holds: Option<bool>| !given || arrival.http && holds == Some(true);
    (!matcher.is_http_only() || arrival.http)
        && http(
            matcher.cluster.is_some(),
            text(0).map(|own| matcher.has_cluster(own)),
        )
        && http(
            matcher.authority.is_some(),
            text(1).map(|own| matcher.has_authority(own)),
        )
        && http(
            !matcher.methods.is_empty(),
            text(2).map(|own| matcher.has_method(own)),
        )
        && http(
            matcher.path_prefix.is_some(),
            text(3).map(|own| matcher.has_path(own)),
        )
        && (matcher.listener_port.is_none()
            || arrival
                .port
                .is_some_and(|port| matcher.has_listener_port(port)))
        && (matcher.sources.is_empty()
            || arrival
                .source
                .is_some_and(|source| matcher.has_source(source)))
}
