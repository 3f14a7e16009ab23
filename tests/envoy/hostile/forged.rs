//! Whom a client can pretend to be.

use std::net::{SocketAddr, TcpStream};

use crate::harness::{
    Bootstrap, Conduct, Envoy, HTTP, Upstream, connect,
    http::{ask, ask_with},
};

/// Two places, of which one is kept for administrators, by this match.
fn reserved(upstream: SocketAddr, admins: &str) -> Bootstrap {
    HTTP.before(upstream)
        .limits(r#"{"inflight": 2}"#)
        .hold_off()
        .with(&format!(
            r#""classes": [{{"name": "admin", "match": {admins}, "reserved": 1}}]"#
        ))
}

/// What somebody else is told who says so in a header, while the one place for all is taken.
fn told(bootstrap: &Bootstrap, upstream: &Upstream, name: &str, value: &[u8]) -> u16 {
    let envoy = Envoy::start(bootstrap, 1);
    let to = envoy.listener(HTTP.listener);
    let first = ask(to, "/first");
    upstream.until_open(1);
    let second = connect(to);
    ask_with(&second, "/second", name, value);
    let status = status(&second, upstream);
    drop((first, second));
    envoy.until_quiet("api", 2);
    status
}

/// 503 at once, or 200: then it has come to the upstream, which answers nobody.
fn status(stream: &TcpStream, upstream: &Upstream) -> u16 {
    stream.set_nonblocking(true).expect("set");
    crate::harness::until(|| {
        if upstream.seen().open == 2 {
            return Ok(200);
        }
        let mut byte = [0];
        match stream.peek(&mut byte) {
            Ok(size @ 1..) => Ok(size),
            _ => Err("neither served nor refused".to_owned()),
        }
        .map(|_| 503)
    })
}

#[test]
fn a_class_by_a_header_is_had_by_whoever_writes_it_unless_it_is_taken_away() {
    const TAKEN: &str = r#"          stat_prefix: api
          early_header_mutation_extensions:
          - name: envoy.http.early_header_mutation.header_mutation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations:
              - remove: x-tier
"#;
    let upstream = Upstream::start(Conduct::Http);
    let by_header = r#"{"header": {"name": "x-tier", "value": "admin"}}"#;
    let open = reserved(upstream.address, by_header);
    assert_eq!(told(&open, &upstream, "x-tier", b"admin"), 200);
    assert_eq!(told(&open, &upstream, "x-tier", b"Admin"), 503);
    let guarded = open.set("          stat_prefix: api\n", TAKEN);
    assert_eq!(told(&guarded, &upstream, "x-tier", b"admin"), 503);
}

#[test]
fn a_class_by_address_is_not_had_by_a_header() {
    let upstream = Upstream::start(Conduct::Http);
    let by_address = r#"{"source": ["10.9.0.0/16"]}"#;
    let shipped = reserved(upstream.address, by_address);
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "x-envoy-external-address",
    ] {
        assert_eq!(told(&shipped, &upstream, name, b"10.9.0.1"), 503, "{name}");
    }
    // Here Envoy believes what the client says.
    let credulous = shipped.set("use_remote_address: true", "use_remote_address: false");
    assert_eq!(
        told(&credulous, &upstream, "x-forwarded-for", b"10.9.0.1"),
        200
    );
}

#[test]
fn two_values_of_a_header_are_one_name_and_not_a_choice() {
    let upstream = Upstream::start(Conduct::Http);
    let by_header = r#"{"header": {"name": "x-tier", "value": "admin"}}"#;
    let shipped = reserved(upstream.address, by_header);
    let both = b"batch\r\nx-tier: admin";
    assert_eq!(told(&shipped, &upstream, "x-tier", both), 503);
}
