//! A real MariaDB client before a real MariaDB.

use crate::harness::{
    Conduct, Envoy, MYSQL, Upstream,
    client::rest,
    fates, knock, knocks,
    mariadb::{MariaDb, programs},
    postgres::written,
};

const RULE: &str = "orders-db";
const REFUSED: &str =
    "ERROR 1040 (08004): too many connections: tidegate is at the limit of this database\n";

#[test]
fn a_refused_mariadb_client_reads_error_1040() {
    let Some(programs) = programs("a_refused_mariadb_client_reads_error_1040") else {
        return;
    };
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = MYSQL.before(upstream.address).limits(r#"{"inflight": 1}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(MYSQL.listener);
    let (occupant, _) = fates(knocks(address, 1));
    for _ in 0..50 {
        let output = programs
            .client(address, "SELECT 1")
            .output()
            .expect("it runs");
        assert_eq!(written(&output), (String::new(), REFUSED.to_owned()));
        assert_eq!(output.status.code(), Some(1));
    }
    drop(occupant);
    let metrics = envoy.until_balanced(RULE, 51);
    assert_eq!(metrics.rejected(RULE, "hold_timeout"), 50.0);
}

#[test]
fn a_refusal_is_one_packet_and_the_end_whatever_the_client_says_meanwhile() {
    let upstream = Upstream::start(Conduct::Echo);
    let bootstrap = MYSQL.before(upstream.address).limits(r#"{"inflight": 1}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(MYSQL.listener);
    let (occupant, _) = fates(knocks(address, 1));
    for words in [
        "",
        "a greeting that nobody asked for",
        &"long ".repeat(10_000),
    ] {
        let answer = rest(&mut knock(address, words));
        let length = 9 + REFUSED.trim_end().len() - "ERROR 1040 (08004): ".len();
        assert_eq!(
            answer.len(),
            4 + length,
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(answer[..4], [length as u8, 0, 0, 0]);
        assert_eq!(answer[4..13], *b"\xff\x10\x04#08004");
    }
    drop(occupant);
    envoy.until_balanced(RULE, 4);
}

#[test]
fn mariadb_sessions_that_are_let_in_see_the_database_as_it_is() {
    let Some(programs) = programs("mariadb_sessions_that_are_let_in_see_the_database_as_it_is")
    else {
        return;
    };
    let database = MariaDb::start(&programs);
    let envoy = Envoy::start(&MYSQL.before(database.address), 2);
    let address = envoy.listener(MYSQL.listener);
    let statement = "SELECT seq, repeat('x', 20) FROM mysql.seq_1_to_100000";
    for _ in 0..3 {
        let through = programs
            .client(address, statement)
            .output()
            .expect("it runs");
        let direct = programs
            .client(database.address, statement)
            .output()
            .expect("it runs");
        let (rows, said) = written(&through);
        assert_eq!(said, "");
        assert!(rows.len() > 2_000_000 && rows == written(&direct).0);
    }
    envoy.until_balanced(RULE, 3);
}
