//! Upstreams that end, refuse, say nothing, or say it slowly.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tokio_postgres::config::SslMode;

use super::{CALM, LIMIT, RULE, is_whole, limited_to, served, until_empty};
use crate::harness::{
    Conduct, Envoy, HTTP, POSTGRES, TCP, Upstream, block_on,
    client::rest,
    fates, http, knocks,
    postgres::{Postgres, login},
};

/// The upstream ends like that, is away, and comes again.
fn ends(how: impl FnOnce(Upstream)) {
    let upstream = Upstream::start(Conduct::Echo);
    let address = upstream.address;
    let envoy = Envoy::start(&limited_to(address, LIMIT), 2);
    let to = envoy.listener(TCP.listener);
    let mut open = served(to, LIMIT);
    how(upstream);
    // Nobody is left alone with half of a connection.
    for stream in &mut open {
        assert!(rest(stream).is_empty());
    }
    drop(open);
    until_empty(&envoy);
    // Who comes now is let through and finds nobody; so many at once as may, and their slots are
    // free again.
    let (none, all) = fates(knocks(to, LIMIT));
    assert_eq!((none.len(), all), (0, LIMIT));
    let metrics = until_empty(&envoy);
    assert!(metrics.rule(RULE, "tidegate_upstream_refusals_total") > 0.0);
    assert_eq!(metrics.rule(RULE, "tidegate_faults_total"), 0.0);
    let upstream = Upstream::start_at(Conduct::Echo, address);
    is_whole(&envoy, to, &upstream);
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn an_upstream_that_is_killed_and_comes_again_finds_every_slot_free() {
    ends(Upstream::die);
}

#[test]
fn an_upstream_that_closes_and_comes_again_finds_every_slot_free() {
    ends(drop);
}

#[test]
fn an_upstream_that_hangs_keeps_its_slots_until_it_speaks() {
    let upstream = Upstream::start(Conduct::Mute);
    let envoy = Envoy::start(&limited_to(upstream.address, LIMIT), 2);
    let to = envoy.listener(TCP.listener);
    let hanging = knocks(to, LIMIT);
    upstream.until_open(LIMIT);
    let (more, refused) = fates(knocks(to, 5));
    assert_eq!((more.len(), refused), (0, 5));
    upstream.release();
    let (all, refused) = fates(hanging);
    assert_eq!((all.len(), refused), (LIMIT, 0));
    drop(all);
    is_whole(&envoy, to, &upstream);
    let metrics = envoy.until_balanced(RULE, 2 * (LIMIT + 5));
    assert_eq!(metrics.rejected(RULE, "inflight_limit"), 10.0);
    assert_eq!(upstream.seen().peak, LIMIT);
}

#[test]
fn a_database_that_is_frozen_serves_who_was_let_through_when_it_thaws() {
    const RULE: &str = "orders-db";
    let database = Postgres::for_sessions(20);
    let bootstrap = POSTGRES
        .before(database.address)
        .limits(r#"{"inflight": 4}"#)
        .hold_off()
        .with(CALM);
    let envoy = Envoy::start(&bootstrap, 2);
    let to = envoy.listener(POSTGRES.listener);
    block_on(async {
        let first = login(to, SslMode::Disable).await.expect("a session");
        // The first process makes the sessions: those that are there go on.
        database.signal(Signal::STOP);
        let waiting: Vec<_> = (0..3)
            .map(|_| tokio::spawn(login(to, SslMode::Disable)))
            .collect();
        while envoy.metrics().rule(RULE, "tidegate_inflight") < 4.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Err(refused) = login(to, SslMode::Disable).await else {
            panic!("there was no slot");
        };
        let code = refused
            .as_db_error()
            .map(|error| error.code().code().to_owned());
        assert_eq!(code.as_deref(), Some("53300"), "{refused}");
        first.simple_query("SELECT 1").await.expect("it goes on");
        database.signal(Signal::CONT);
        let mut sessions = vec![first];
        for session in waiting {
            sessions.push(session.await.expect("no panic").expect("a session"));
        }
        for session in &sessions {
            session.simple_query("SELECT 1").await.expect("an answer");
        }
        // And now it dies: all of it, as it does when one of its processes is killed.
        database.signal(Signal::QUIT);
        for session in &sessions {
            while session.simple_query("SELECT 1").await.is_ok() {}
        }
    });
    let metrics = envoy.until_quiet(RULE, 5);
    assert_eq!(metrics.rejected(RULE, "inflight_limit"), 1.0);
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 4.0);
}

/// An HTTP upstream that does something odd with each request.
struct Odd {
    address: SocketAddr,
    peak: Arc<AtomicUsize>,
}

impl Odd {
    /// Who serves a request says itself when it is over.
    fn start(serve: impl Fn(&mut TcpStream, &dyn Fn()) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let serve = Arc::new(serve);
        let (open, peak) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let most = Arc::clone(&peak);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (serve, open, most) =
                    (Arc::clone(&serve), Arc::clone(&open), Arc::clone(&most));
                thread::spawn(move || {
                    while request(&mut stream) {
                        let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        serve(&mut stream, &|| {
                            open.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        Self { address, peak }
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

/// Reads a request; whether there was one.
fn request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// An Envoy before it, whose rule `api` lets five through and holds the others for long.
fn before(odd: &Odd) -> Envoy {
    let bootstrap = HTTP
        .before(odd.address)
        .limits(r#"{"inflight": 5}"#)
        .hold(r#"{"max_wait": "30s", "max_waiting": 100}"#)
        .with(CALM);
    Envoy::start(&bootstrap, 2)
}

#[test]
fn an_upstream_that_trickles_is_waited_for_and_every_byte_comes() {
    const BODY: &[u8] = b"slowly but surely";
    let odd = Odd::start(|stream, over| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY.len());
        let _ = stream.write_all(head.as_bytes());
        let (last, first) = BODY.split_last().expect("a body");
        for byte in first {
            let _ = stream.write_all(&[*byte]);
            thread::sleep(Duration::from_millis(10));
        }
        over();
        let _ = stream.write_all(&[*last]);
    });
    let envoy = before(&odd);
    let to = envoy.listener(HTTP.listener);
    let asked: Vec<_> = (0..20).map(|_| http::ask(to, "/")).collect();
    for stream in asked {
        let response = http::answer(stream);
        assert_eq!((response.status, response.body.as_bytes()), (200, BODY));
    }
    envoy.until_quiet("api", 20);
    assert_eq!(odd.peak(), 5);
}

#[test]
fn an_upstream_that_breaks_off_in_the_middle_of_an_answer_gives_the_slot_back() {
    let odd = Odd::start(|stream, over| {
        thread::sleep(Duration::from_millis(20));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe beginning");
        over();
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let envoy = before(&odd);
    let to = envoy.listener(HTTP.listener);
    for round in 1..=2 {
        let asked: Vec<_> = (0..20).map(|_| http::ask(to, "/")).collect();
        for mut stream in asked {
            let answer = rest(&mut stream);
            let answer = String::from_utf8_lossy(&answer);
            // What the upstream said, or that it broke off: nobody is refused, nobody hangs.
            let begun = answer.starts_with("HTTP/1.1 200 OK") && answer.len() < 1000;
            let broken =
                answer.starts_with("HTTP/1.1 503") && !answer.contains("x-tidegate-reason");
            assert!(begun || broken, "{answer}");
        }
        envoy.until_quiet("api", 20 * round);
    }
    assert!(odd.peak() <= 5);
}
