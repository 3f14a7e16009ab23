//! Real PostgreSQL clients before a real PostgreSQL.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio_postgres::{Client, config::SslMode, error::SqlState};

use crate::harness::{
    Envoy, POSTGRES, block_on,
    client::rest,
    connect,
    postgres::{Postgres, Psql, login, written},
};

const RULE: &str = "orders-db";
const REFUSED: &str = "too many connections: tidegate is at the limit of this database";

/// Envoy with one slot before a database.
struct Small {
    envoy: Envoy,
    address: SocketAddr,
    database: Arc<Postgres>,
}

impl Small {
    /// With the shipped hold.
    fn start(workers: u32) -> Self {
        Self::with(workers, r#"{"inflight": 1}"#)
    }

    fn with(workers: u32, limits: &str) -> Self {
        let database = Postgres::shared();
        let envoy = Envoy::start(&POSTGRES.before(database.address).limits(limits), workers);
        let address = envoy.listener(POSTGRES.listener);
        Self {
            envoy,
            address,
            database,
        }
    }

    /// Takes the only slot, until the connection is dropped.
    fn occupy(&self) -> TcpStream {
        let mut stream = connect(self.address);
        stream.write_all(&startup()).expect("sent");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        assert_eq!(&byte, b"R", "it is let in");
        stream
    }
}

/// A message without a type: what a client says first.
fn message(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).expect("short");
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// How a session begins.
pub fn startup() -> Vec<u8> {
    message(3 << 16, b"user\0app\0database\0postgres\0\0")
}

/// Runs `psql` many times, eight at once.
fn many_psqls(program: &Psql, address: SocketAddr, ssl: &str, count: usize) -> Vec<Output> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outputs = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            outputs.push(program.output(address, ssl, "SELECT 1"));
        }
        outputs
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let outputs = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        outputs.flatten().collect()
    })
}

/// Each prints one error, which is ours, and nothing else.
fn five_hundred_clean_refusals(program: &Psql, ssl: &str) {
    let small = Small::start(2);
    let occupant = small.occupy();
    let outputs = many_psqls(program, small.address, ssl, 500);
    let said = format!(
        "psql: error: connection to server at \"127.0.0.1\", port {} failed: \
         FATAL:  {REFUSED}\nHINT:  Try again in a few seconds.\n",
        small.address.port()
    );
    assert_eq!(outputs.len(), 500);
    for output in outputs {
        assert_eq!(written(&output), (String::new(), said.clone()));
        assert_eq!(output.status.code(), Some(2));
    }
    drop(occupant);
    let metrics = small.envoy.until_balanced(RULE, 501);
    assert_eq!(metrics.rejected(RULE, "hold_timeout"), 500.0);
}

#[test]
fn five_hundred_psqls_each_read_one_clean_refusal() {
    five_hundred_clean_refusals(&Psql::ours(), "disable");
}

#[test]
fn five_hundred_psqls_that_prefer_tls_each_read_one_clean_refusal() {
    let test = "five_hundred_psqls_that_prefer_tls_each_read_one_clean_refusal";
    if let Some(program) = Psql::with_tls(test) {
        five_hundred_clean_refusals(&program, "prefer");
    }
}

#[test]
fn a_refused_psql_that_requires_tls_reads_that_there_is_none() {
    let test = "a_refused_psql_that_requires_tls_reads_that_there_is_none";
    let Some(program) = Psql::with_tls(test) else {
        return;
    };
    let small = Small::start(1);
    let occupant = small.occupy();
    let (_, said) = written(&program.output(small.address, "require", "SELECT 1"));
    assert!(
        said.ends_with("server does not support SSL, but SSL was required\n"),
        "{said}"
    );
    drop(occupant);
    small.envoy.until_balanced(RULE, 2);
}

#[test]
fn the_rust_client_reads_the_sqlstate_of_too_many_connections() {
    let small = Small::start(1);
    let occupant = small.occupy();
    for mode in [SslMode::Disable, SslMode::Prefer] {
        let error = block_on(login(small.address, mode)).expect_err("refused");
        let error = error.as_db_error().expect("an error of the database");
        assert_eq!(error.code(), &SqlState::TOO_MANY_CONNECTIONS);
        assert_eq!(error.severity(), "FATAL");
        assert_eq!(error.message(), REFUSED);
    }
    let error = block_on(login(small.address, SslMode::Require)).err();
    let error = error.and_then(tokio_postgres::Error::into_source);
    let error = error.expect("refused, with a cause").to_string();
    assert_eq!(error, "server does not support TLS");
    drop(occupant);
    small.envoy.until_balanced(RULE, 4);
}

/// Two hundred thousand rows.
const MANY: &str = "SELECT n, repeat('x', 20) FROM generate_series(1, 200000) AS n";

/// The sum of the first column, when the second is as it should be.
async fn sum_of_many(client: &Client) -> i64 {
    let rows = client.query(MANY, &[]).await.expect("rows");
    assert!(
        rows.iter()
            .all(|row| row.get::<_, &str>(1) == "x".repeat(20))
    );
    rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum()
}

#[test]
fn sessions_that_are_let_in_see_the_database_as_it_is() {
    let small = Small::with(2, r#"{"inflight": 90}"#);
    let psql = Psql::ours();
    for ssl in ["disable", "prefer"] {
        let output = psql.output(small.address, ssl, MANY);
        let (rows, said) = written(&output);
        assert_eq!(said, "");
        let direct = psql.output(small.database.address, ssl, MANY);
        assert!(rows.len() > 4_000_000 && rows == written(&direct).0);
        assert!(output.status.success());
    }
    let sum = block_on(async {
        let client = login(small.address, SslMode::Prefer).await.expect("let in");
        client
            .batch_execute("SET application_name = 'ours'")
            .await
            .expect("done");
        let error = client.batch_execute("SELECT nothing").await.err();
        let error = error.expect("an error of the database");
        assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
        sum_of_many(&client).await
    });
    assert_eq!(sum, 200_000 * 200_001 / 2);
    small.envoy.until_balanced(RULE, 3);
}

#[test]
fn a_held_session_begins_when_a_slot_gets_free() {
    let database = Postgres::shared();
    let bootstrap = POSTGRES
        .before(database.address)
        .limits(r#"{"inflight": 1}"#)
        .hold(r#"{"max_wait": "60s", "max_waiting": 8}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(POSTGRES.listener);
    let mut occupant = connect(address);
    occupant.write_all(&startup()).expect("sent");
    occupant.read_exact(&mut [0]).expect("an answer");
    for ssl in ["disable", "prefer"] {
        let held = thread::spawn(move || Psql::ours().output(address, ssl, "SELECT 42"));
        envoy.until_rule(RULE, "tidegate_waiting", 1.0);
        drop(occupant);
        let output = held.join().expect("no panic");
        assert_eq!(written(&output), ("42\n".to_owned(), String::new()));
        occupant = connect(address);
        occupant.write_all(&startup()).expect("sent");
        occupant.read_exact(&mut [0]).expect("an answer");
        envoy.until_rule(RULE, "tidegate_waiting", 0.0);
    }
    drop(occupant);
    envoy.until_balanced(RULE, 5);
}

/// Sends bytes one by one.
fn say_slowly(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).expect("sent");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A client that has sent this.
fn said(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("sent");
    stream
}

#[test]
fn a_startup_message_that_comes_byte_by_byte_is_refused_like_any_other() {
    let small = Small::start(1);
    let occupant = small.occupy();
    let whole = rest(&mut said(small.address, &startup()));
    let text = String::from_utf8_lossy(&whole);
    assert!(whole.starts_with(b"E") && text.contains(REFUSED), "{text}");

    let mut slow = connect(small.address);
    say_slowly(&mut slow, &startup());
    assert_eq!(rest(&mut slow), whole);

    let mut slow = connect(small.address);
    for encryption in [80_877_103, 80_877_104] {
        say_slowly(&mut slow, &message(encryption, b""));
        let mut answer = [0];
        slow.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"N");
    }
    say_slowly(&mut slow, &startup());
    assert_eq!(rest(&mut slow), whole);
    drop(occupant);
    small.envoy.until_balanced(RULE, 4);
}

#[test]
fn what_cannot_be_answered_is_closed_without_a_word() {
    let small = Small::start(2);
    let occupant = small.occupy();
    let cancel = message(80_877_102, &[0, 0, 0, 1, 0, 0, 0, 2]);
    let startup = startup();
    let clients: [&[u8]; 7] = [
        &cancel,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",
        &[0xff; 64],
        &[0; 20_000],
        // These two are given some time.
        &startup[..7],
        b"",
    ];
    let clients = clients.map(|bytes| said(small.address, bytes));
    for (index, mut client) in clients.into_iter().enumerate() {
        assert_eq!(rest(&mut client), b"", "client {index}");
    }
    drop(occupant);
    small.envoy.until_balanced(RULE, 8);
}
