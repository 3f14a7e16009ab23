//! What Envoy and clients write of addresses and in headers.

use std::{net::IpAddr, time::Duration};

use serde_json::json;
use tidegate::{
    config::{self, Build, Key, Rule, Sticky},
    engine::{Callers, MAX_KEY, keyed_hash},
    protocol::{address, http},
};

/// The first line is what an operator wrote, the second what a client or Envoy did.
pub fn run(data: &[u8]) {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let written = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let sent = lines.next().unwrap_or_default();
    addresses(sent);
    ranges(&written, sent);
    keys(&written, sent);
    refusals(&written, sent);
}

fn addresses(sent: &[u8]) {
    let key = address::without_port(sent);
    assert!(sent.starts_with(key));
    if let Some(ip) = address::ip(sent) {
        let text = core::str::from_utf8(key).expect("an address is ASCII");
        let text = text.trim_start_matches('[').trim_end_matches(']');
        // A zone is a part of the key, and of no address.
        let text = text.split('%').next().unwrap_or_default();
        assert_eq!(text.parse(), Ok(ip), "the key of an address says the same");
    }
}

/// A range that was taken holds its own addresses, and is written as what it is.
fn ranges(written: &str, sent: &[u8]) {
    let read = |range: &str| {
        let rule = json!({"name": "a", "match": {"source": [range]}});
        let rule = parsed(&rule)?;
        rule.matcher.sources.first().copied()
    };
    let Some(range) = read(written) else { return };
    assert_eq!(read(&range.to_string()), Some(range));
    let (first, prefix) = written.split_once('/').unwrap_or((written, ""));
    let first: IpAddr = first.parse().expect("it was taken");
    assert!(range.contains(first));
    if let Some(other) = address::ip(sent) {
        assert_eq!(range.contains(other), range.contains(other.to_canonical()));
        let single = prefix.is_empty();
        assert!(!single || range.contains(other) == (other.to_canonical() == first.to_canonical()));
    }
}

/// A key or a name of a header is taken as it was written, in lower case; a value can be anything.
fn keys(written: &str, sent: &[u8]) {
    let rule = parsed(&json!({"name": "a", "key": written, "sticky": written}));
    if let Some(Rule {
        key: Key::Header(name),
        sticky,
        ..
    }) = rule
    {
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        assert_eq!(sticky, Sticky::Header(name));
    }
    if let Some(value) = http::cookie(sent, written.as_bytes()) {
        assert!(!value.contains(&b';'));
        let pair = [written.as_bytes(), b"=", value].concat();
        assert!(sent.windows(pair.len()).any(|window| window == pair));
    }
    let seed = [1, 2];
    assert_eq!(keyed_hash(seed, sent), keyed_hash(seed, &sent.to_vec()));
    let mut callers = Callers::new(seed);
    callers.arrive(sent);
    let mut bytes = Vec::new();
    callers.encode(&mut bytes);
    assert!(bytes.len() < 128 + 64 + MAX_KEY);
}

/// The headers of a refusal can be sent, whatever is asked.
fn refusals(written: &str, sent: &[u8]) {
    let random = sent.first_chunk().copied().map_or(7, u32::from_le_bytes);
    let millis = sent.last_chunk().copied().map_or(1, u32::from_le_bytes);
    let retry_after = Duration::from_millis(u64::from(millis % 3_600_001));
    let grpc = http::is_grpc(written.as_bytes()) || http::is_grpc(sent);
    for (name, value) in http::refusal("hold_full", retry_after, grpc, random) {
        assert!(!name.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// The only rule of a configuration, if it is right.
fn parsed(rule: &serde_json::Value) -> Option<Rule> {
    let text = json!({ "rules": [rule] }).to_string();
    let policy = config::parse(text.as_bytes(), Build { inspect: true }).ok()?;
    policy.rules().first().cloned()
}
