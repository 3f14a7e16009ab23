//! Who makes a surge, by whatever callers are told apart.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use tokio_postgres::{config::SslMode, error::SqlState};

use crate::harness::{
    Conduct, Envoy, Event, HTTP, PATIENCE, POSTGRES, Upstream, block_on, connect, http,
    metrics::Metrics,
    postgres::{Postgres, login, login_as},
};

/// So long may a line about a surge be: five callers, of whom 64 bytes each are shown.
const LINE: usize = 2500;
/// Why the database's client is turned out.
const HOT: &str = "this client opens more than is normal for it";
const TENANT: &str = "x-tenant";

/// A rule for the requests to a path, which know 20 a second to be normal.
fn rule(name: &str, key: &str) -> String {
    format!(
        r#"{{"name": "{name}", "match": {{"path_prefix": "/{name}"}}, "key": "{key}",
            "surge": {{"baseline_per_s": 20}}}}"#
    )
}

/// Asks in turn with each of these headers, on one connection, until the surge is told.
fn ask_until_told(envoy: &Envoy, rule: &str, headers: &[&[u8]]) -> Event {
    let stream = connect(envoy.listener(HTTP.listener));
    let path = format!("/{rule}");
    let since = Instant::now();
    let mut asked = 0;
    loop {
        for header in headers {
            http::ask_with(&stream, &path, TENANT, header);
            let answer = http::try_answer(&stream).expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
            asked += 1;
        }
        if asked % 50 < headers.len()
            && let Some(event) = envoy.events_of(rule, "surge_started").pop()
        {
            return event;
        }
        assert!(
            since.elapsed() < PATIENCE,
            "no surge after {asked} requests"
        );
    }
}

#[test]
fn a_surge_names_the_value_of_a_header_and_whatever_is_in_it_the_line_stays_one() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let rules = [
        rule("tenants", "header:x-tenant"),
        rule("strange", "header:x-tenant"),
        rule("absent", "header:x-absent"),
        rule("nobody", "none"),
    ];
    let bootstrap = HTTP
        .before(upstream.address)
        .rules(&format!("[{}]", rules.join(",")));
    let envoy = Envoy::start(&bootstrap, 2);

    // One in twenty is somebody else.
    let mut tenants = [b"acme".as_slice(); 19];
    tenants[7] = b"globex";
    let event = ask_until_told(&envoy, "tenants", &tenants);
    event.blames("acme");
    assert_eq!(event.callers(), ["acme", "globex"], "{}", event.json);

    let long = [b'x'; 5000];
    let strange: [&[u8]; 5] = [
        br#"",{}]"\ntidegate_event {"event":"#,
        &long,
        b"\xff\xfe\xc3\x28",
        &[0xff; 200],
        "\u{2028}\u{202e}tab\there".as_bytes(),
    ];
    let event = ask_until_told(&envoy, "strange", &strange);
    assert_eq!(event.text("spread"), "everybody", "all five are hot");
    let shown = |key: &&[u8]| key[..key.len().min(64)].escape_ascii().to_string();
    let mut expected: Vec<_> = strange.iter().map(shown).collect();
    let mut callers = event.callers();
    expected.sort();
    callers.sort_unstable();
    assert_eq!(callers, expected);
    assert!(event.length < LINE, "{} bytes", event.length);

    let event = ask_until_told(&envoy, "absent", &[b"acme"]);
    assert_eq!(event.callers(), [""], "those without it are one caller");
    let event = ask_until_told(&envoy, "nobody", &[b"acme"]);
    assert_eq!(event.callers(), [""; 0]);

    let metrics = envoy.metrics();
    for name in ["tenants", "strange", "absent", "nobody"] {
        assert_eq!(metrics.rule(name, "tidegate_faults_total"), 0.0);
        assert_eq!(envoy.events_of(name, "surge_started").len(), 1);
    }
}

#[test]
fn a_surge_of_database_sessions_names_the_user() {
    const RULE: &str = "orders-db";
    let database = Postgres::shared();
    block_on(async {
        let client = login(database.address, SslMode::Disable).await.expect("in");
        let batch = client.batch_execute("CREATE ROLE batch LOGIN").await;
        batch.expect("a second user");
    });
    let bootstrap = POSTGRES
        .before(database.address)
        .with(r#""key": "postgres.user", "surge": {"baseline_per_s": 1, "min_excess": 10}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(POSTGRES.listener);
    let event = block_on(async {
        for _ in 0..3 {
            login(address, SslMode::Disable).await.expect("let in");
        }
        let since = Instant::now();
        loop {
            for mode in [SslMode::Disable, SslMode::Disable, SslMode::Prefer] {
                login_as("batch", address, mode).await.expect("let in");
            }
            if let Some(event) = envoy.events_of(RULE, "surge_started").pop() {
                return event;
            }
            assert!(since.elapsed() < PATIENCE, "there is no surge");
        }
    });
    event.blames("batch");
}

#[test]
fn a_database_user_that_opens_far_more_sessions_than_it_does_is_turned_out_and_the_others_are_not()
{
    const RULE: &str = "orders-db";
    let database = Postgres::shared();
    block_on(async {
        let client = login(database.address, SslMode::Disable).await.expect("in");
        let batch = client.batch_execute("CREATE ROLE flood LOGIN").await;
        batch.expect("a second user");
    });
    let bootstrap = POSTGRES
        .before(database.address)
        .limits(r#"{"inflight": 30}"#)
        .with(r#""key": "postgres.user", "surge": {"baseline_per_s": 10}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    let address = envoy.listener(POSTGRES.listener);
    let refused = |metrics: &Metrics| {
        metrics.sum(
            "tidegate_rejected_total",
            &[("rule", RULE), ("reason", "hot_caller")],
        )
    };
    block_on(async {
        for _ in 0..40 {
            drop(login(address, SslMode::Disable).await.expect("let in"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Each holds its session for a while, and comes again at once.
        let floods: Vec<_> = (0..60)
            .map(|number| {
                let mode = [SslMode::Disable, SslMode::Prefer][number % 2];
                tokio::spawn(async move {
                    let mut told = Vec::new();
                    loop {
                        match login_as("flood", address, mode).await {
                            Ok(session) => {
                                tokio::time::sleep(Duration::from_millis(300)).await;
                                drop(session);
                            }
                            Err(error) => told.push(error.as_db_error().cloned()),
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        if told.len() > 10 {
                            return told;
                        }
                    }
                })
            })
            .collect();
        let since = Instant::now();
        while refused(&envoy.metrics()) < 100.0 {
            assert!(since.elapsed() < PATIENCE, "nobody is turned out");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut served = 0;
        for _ in 0..50 {
            served += u32::from(login(address, SslMode::Disable).await.is_ok());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(served >= 40, "{served} of 50");
        let mut why = BTreeSet::new();
        for flood in floods {
            for told in flood.await.expect("it ends") {
                let told = told.expect("the database's words");
                assert_eq!(*told.code(), SqlState::TOO_MANY_CONNECTIONS, "{told:?}");
                why.insert(told.message().to_owned());
            }
        }
        assert!(why.iter().any(|why| why.contains(HOT)), "{why:?}");
    });
    let event = envoy.until_event(RULE, "surge_started");
    assert_eq!(event.callers()[0], "flood", "{}", event.json);
    let metrics = envoy.metrics();
    assert_eq!(
        metrics.rule(RULE, "tidegate_faults_total"),
        0.0,
        "{}",
        metrics.told()
    );
    let [arrived, admitted, rejected] = ["arrivals", "admitted", "rejected"]
        .map(|what| metrics.sum(&format!("tidegate_{what}_total"), &[("rule", RULE)]));
    assert!(
        admitted + rejected > arrived + 20.0,
        "nobody was let in and turned out: {}",
        metrics.told()
    );
}

/// Asks with as many different headers, eight at a time.
fn strangers(envoy: &Envoy, first: u32, count: u32) {
    const AT_ONCE: u32 = 8;
    let address = envoy.listener(HTTP.listener);
    thread::scope(|scope| {
        for part in 0..AT_ONCE {
            scope.spawn(move || {
                let stream = connect(address);
                for number in (first + part..first + count).step_by(AT_ONCE as usize) {
                    let name = format!("stranger-{number}-{}", "x".repeat(200));
                    http::ask_with(&stream, "/", TENANT, name.as_bytes());
                    let answer = http::try_answer(&stream).expect("an answer");
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
}

#[test]
fn twenty_thousand_strangers_leave_no_more_memory_than_two_thousand() {
    let upstream = Upstream::start(Conduct::Http);
    upstream.release();
    let bootstrap = HTTP
        .before(upstream.address)
        .with(r#""key": "header:x-tenant", "surge": {"baseline_per_s": 20}"#);
    let envoy = Envoy::start(&bootstrap, 2);
    strangers(&envoy, 0, 2_000);
    let before = envoy.resident_kib();
    strangers(&envoy, 2_000, 20_000);
    let after = envoy.resident_kib();
    println!("{before} KiB before, {after} KiB after");
    // 20,000 names of 200 bytes are 4 MiB, and 12 MiB as keys and values of shared data.
    assert!(after < before + 6 * 1024, "{before} KiB, then {after} KiB");
    let event = envoy.until_event("api", "surge_started");
    assert_eq!(event.text("spread"), "everybody", "{}", event.json);
    assert!(event.length < LINE, "{} bytes", event.length);
    envoy.until_quiet("api", 22_000);
}
