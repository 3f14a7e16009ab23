//! Connections that stay, and what they hold meanwhile.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, HTTP, POSTGRES, TCP, Upstream,
    client::rest,
    connect, fate,
    http::{answer, ask},
    knock,
};

/// Switches the protocol for whoever asks, and says nothing more.
fn switching() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || switch(stream));
        }
    });
    address
}

fn switch(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    // One request fits.
    if !matches!(stream.read(&mut bytes), Ok(1..)) {
        return;
    }
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                    upgrade: websocket\r\n\r\n";
    stream.write_all(switched.as_bytes()).ok();
    while matches!(stream.read(&mut bytes), Ok(1..)) {}
}

fn upgraded(to: SocketAddr) -> TcpStream {
    let mut stream = connect(to);
    let request = "GET / HTTP/1.1\r\nhost: api.example\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

#[test]
fn an_upgraded_connection_has_its_place_until_it_ends() {
    const RULE: &str = "api";
    let bootstrap: Bootstrap = HTTP
        .before(switching())
        .limits(r#"{"inflight": 2}"#)
        .hold_off()
        .set(
            "          stat_prefix: api\n",
            "          stat_prefix: api\n          upgrade_configs: [{upgrade_type: websocket}]\n",
        );
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(HTTP.listener);
    let stay: Vec<_> = (0..2).map(|_| upgraded(to)).collect();
    envoy.until_rule(RULE, "tidegate_inflight", 2.0);
    assert_eq!(answer(ask(to, "/")).status, 503);
    drop(stay);
    envoy.until_rule(RULE, "tidegate_inflight", 0.0);
    drop((upgraded(to), upgraded(to)));
    envoy.until_quiet(RULE, 5);
}

#[test]
fn a_connection_that_says_nothing_has_its_place_until_envoys_own_timeout() {
    const RULE: &str = "service";
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = TCP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off()
        .set("idle_timeout: 3600s", "idle_timeout: 1s");
    let envoy = Envoy::start(&bootstrap, 1);
    let to = envoy.listener(TCP.listener);
    let mut silent = connect(to);
    envoy.until_rule(RULE, "tidegate_inflight", 1.0);
    assert_eq!(fate(&mut knock(to, "knock")), Fate::Refused);
    assert_eq!(fate(&mut silent), Fate::Refused, "Envoy closes it");
    envoy.until_rule(RULE, "tidegate_inflight", 0.0);
    assert_eq!(fate(&mut knock(to, "knock")), Fate::Served);
    envoy.until_quiet(RULE, 3);
}

#[test]
fn a_cancel_request_counts_like_any_connection() {
    const RULE: &str = "orders-db";
    const CANCEL: [u8; 16] = *b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = POSTGRES
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 1);
    let to = envoy.listener(POSTGRES.listener);
    let cancel = || {
        let mut stream = connect(to);
        stream.write_all(&CANCEL).expect("sent");
        stream
    };
    let mut first = cancel();
    assert_eq!(fate(&mut first), Fate::Served);
    // Nothing says why: no answer to it exists.
    assert_eq!(rest(&mut cancel()), b"");
    drop(first);
    envoy.until_balanced(RULE, 2);
}
