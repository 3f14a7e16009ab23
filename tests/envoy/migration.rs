//! Two listeners before one real PostgreSQL, as in the middle of a migration.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use crate::{
    harness::{
        Bootstrap, Envoy, MIGRATION, PATIENCE, client::rest, load::connect_from,
        postgres::Postgres, until,
    },
    postgres::startup,
};

const RULE: &str = "accounts-db";
/// Mail on the old and on the new infrastructure, and an operator, by the networks of the file.
const MAIL: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 1, 1, 1), Ipv4Addr::new(127, 2, 1, 1)];
const OPERATOR: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);
/// What the file reserves for operators.
const RESERVED: usize = 3;
const LIMIT: usize = RESERVED + 2;

/// Both listeners, with a limit that a few reach.
struct Small {
    envoy: Envoy,
    listeners: [SocketAddr; 2],
    _database: Arc<Postgres>,
}

impl Small {
    fn start() -> Self {
        let database = Postgres::shared();
        let bootstrap = MIGRATION
            .before(database.address)
            .limits(&format!(r#"{{"inflight": {LIMIT}}}"#));
        // This machine has no networks 10.x.
        let text = bootstrap.text.replace("\"10.", "\"127.");
        let envoy = Envoy::start(&Bootstrap { text }, 2);
        Self {
            listeners: [MIGRATION.listener, "new"].map(|name| envoy.listener(name)),
            envoy,
            _database: database,
        }
    }

    /// A client of an infrastructure, and the type of the first message that it is sent.
    fn client(&self, infrastructure: usize, from: Ipv4Addr) -> (TcpStream, u8) {
        let mut stream = connect_from(from, self.listeners[infrastructure]);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&startup()).expect("sent");
        let mut first = [0];
        stream.read_exact(&mut first).expect("an answer");
        (stream, first[0])
    }

    /// One that is let in.
    fn served(&self, infrastructure: usize, from: Ipv4Addr) -> TcpStream {
        let (stream, first) = self.client(infrastructure, from);
        assert_eq!(first, b'R', "it is let in");
        stream
    }

    /// One that is refused in PostgreSQL's own words.
    fn refused(&self, infrastructure: usize, from: Ipv4Addr) {
        let (mut stream, first) = self.client(infrastructure, from);
        assert_eq!(first, b'E', "it is refused");
        let said = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
        assert!(said.contains("C53300\0Mtoo many connections"), "{said}");
    }
}

#[test]
fn the_old_and_the_new_infrastructure_share_one_budget() {
    let small = Small::start();
    let on_old = small.served(0, MAIL[0]);
    let on_new = small.served(1, MAIL[1]);
    let mut sum = 2;
    for infrastructure in [0, 1] {
        small.refused(infrastructure, MAIL[infrastructure]);
        sum += 1;
    }
    small.envoy.until_rule(RULE, "tidegate_inflight", 2.0);
    // What the one gives back, the other can take.
    drop(on_old);
    let more = until(|| {
        sum += 1;
        let (stream, first) = small.client(1, MAIL[1]);
        (first == b'R')
            .then_some(stream)
            .ok_or("no place yet".to_owned())
    });
    drop((on_new, more));
    small.envoy.until_balanced(RULE, sum);
}

#[test]
fn operators_have_places_of_their_own_on_both_infrastructures() {
    let small = Small::start();
    let mail: Vec<_> = [0, 1].map(|at| small.served(at, MAIL[at])).into();
    small.refused(0, MAIL[0]);
    let operators: Vec<_> = [0, 1, 1].map(|at| small.served(at, OPERATOR)).into();
    assert_eq!(mail.len() + operators.len(), LIMIT);
    small.refused(0, OPERATOR);
    drop((mail, operators));
    small.envoy.until_balanced(RULE, LIMIT + 2);
}
