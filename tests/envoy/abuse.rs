//! Clients that behave badly, by the thousand.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, HTTP, POSTGRES, TCP, Upstream, bootstrap::Shipped, connect,
    fate, http, knock,
};

/// So many are open at once.
const CROWD: usize = 100;

/// How long a crowd stays, up to three times; it is held for 50 ms.
const STAY: Duration = Duration::from_millis(25);

/// What one does after it has connected. It does not read.
#[derive(Clone, Copy)]
enum Vice {
    /// Resets at once.
    Reset,
    /// Says something, then resets.
    SpeakAndReset,
    /// Waits with the crowd, then resets.
    LingerAndReset,
    /// Leaves at once.
    Leave,
    /// Says that it has nothing to say, and stays with the crowd.
    HalfClose,
    /// Says something and that it is all, and stays with the crowd.
    SpeakAndHalfClose,
    /// Says nothing and stays with the crowd.
    Silent,
    /// Says something and stays with the crowd.
    Speak,
}

const VICES: [Vice; 8] = [
    Vice::Reset,
    Vice::SpeakAndReset,
    Vice::LingerAndReset,
    Vice::Leave,
    Vice::HalfClose,
    Vice::SpeakAndHalfClose,
    Vice::Silent,
    Vice::Speak,
];

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Behaves badly; what is left open stays so until the crowd has come.
fn misbehave(vice: Vice, to: SocketAddr, words: &[u8]) -> Option<(Vice, TcpStream)> {
    let mut stream = connect(to);
    // A client that is refused meanwhile may find the connection closed already.
    match vice {
        Vice::Reset => {
            reset(stream);
            return None;
        }
        Vice::SpeakAndReset => {
            let _ = stream.write_all(words);
            reset(stream);
            return None;
        }
        Vice::Leave => return None,
        Vice::HalfClose => drop(stream.shutdown(Shutdown::Write)),
        Vice::SpeakAndHalfClose => {
            let _ = stream.write_all(words);
            let _ = stream.shutdown(Shutdown::Write);
        }
        Vice::Speak => drop(stream.write_all(words)),
        Vice::LingerAndReset | Vice::Silent => {}
    }
    Some((vice, stream))
}

/// Thousands of them, in crowds.
fn misbehave_all(to: SocketAddr, words: &'static [u8], count: usize) {
    let threads: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                for crowd in 0..count / CROWD / 2 {
                    let all = VICES.iter().cycle().take(CROWD);
                    let stayed: Vec<_> =
                        all.filter_map(|vice| misbehave(*vice, to, words)).collect();
                    // Some crowds leave while they are held, others while they are refused.
                    thread::sleep(STAY * (crowd % 4) as u32);
                    for (vice, stream) in stayed {
                        if matches!(vice, Vice::LingerAndReset) {
                            reset(stream);
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it ends");
    }
}

/// With so few slots that most are held, and many refused.
fn narrow(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap
        .limits(r#"{"inflight": 5}"#)
        .hold(r#"{"max_wait": "50ms", "max_waiting": 20}"#)
}

/// Nothing is left open, nothing failed, and every machine is still there.
fn assert_unharmed(envoy: &Envoy, rule: &str) {
    let metrics = envoy.until_quiet(rule, 1);
    let active = metrics.sum("envoy_wasm_envoy_wasm_runtime_v8_active", &[]);
    assert_eq!(active, f64::from(envoy.workers() + 2), "machines");
    assert!(metrics.rule(rule, "tidegate_held_total") > 0.0);
    assert!(metrics.rule(rule, "tidegate_rejected_total") > 0.0);
}

/// Lets them loose on connections, and looks whether decent ones are served after that.
fn connections(
    shipped: &Shipped,
    bootstrap: Bootstrap,
    rule: &str,
    words: &'static [u8],
    count: usize,
) {
    let envoy = Envoy::start(&bootstrap, 4);
    let address = envoy.listener(shipped.listener);
    misbehave_all(address, words, count);
    assert_unharmed(&envoy, rule);
    envoy.until_balanced(rule, count);
    // All slots are there.
    let mut decent: Vec<_> = (0..5).map(|_| knock(address, "decent")).collect();
    assert!(decent.iter_mut().all(|stream| fate(stream) == Fate::Served));
}

#[test]
fn ten_thousand_abusive_connections_leave_nothing_behind() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = narrow(TCP.before(upstream.address));
    connections(&TCP, bootstrap, "service", b"words", 10_000);
    assert_eq!(upstream.seen().peak, 5);
}

#[test]
fn four_thousand_abusive_connections_leave_nothing_behind_with_inspection() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = narrow(TCP.before(upstream.address).inspecting());
    connections(&TCP, bootstrap, "service", b"words", 4000);
    assert_eq!(upstream.seen().peak, 5);
}

#[test]
fn four_thousand_abusive_postgres_clients_leave_nothing_behind() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = narrow(POSTGRES.before(upstream.address));
    let ask_for_tls = b"\0\0\0\x08\x04\xd2\x16\x2f";
    connections(&POSTGRES, bootstrap, "orders-db", ask_for_tls, 4000);
    assert_eq!(upstream.seen().peak, 5);
}

#[test]
fn four_thousand_abusive_http_clients_leave_nothing_behind() {
    let upstream = Upstream::start(Conduct::Http);
    let envoy = Envoy::start(&narrow(HTTP.before(upstream.address)), 4);
    let api = envoy.listener(HTTP.listener);
    let words = b"GET /bad HTTP/1.1\r\nhost: api.example\r\n\r\n";
    // Some must find the slots taken.
    let first: Vec<_> = (0..5).map(|_| http::ask(api, "/first")).collect();
    upstream.until_open(5);
    misbehave_all(api, words, 2000);
    upstream.release();
    for request in first {
        assert_eq!(http::answer(request).status, 200);
    }
    misbehave_all(api, words, 2000);
    assert_unharmed(&envoy, "api");
    assert_eq!(upstream.seen().peak, 5);
    for _ in 0..5 {
        assert_eq!(http::get(api, "/decent").status, 200);
    }
}
