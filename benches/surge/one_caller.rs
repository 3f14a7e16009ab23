//! One other address makes a surge: over TCP, over HTTP, and before PostgreSQL.

use std::{cell::Cell, net::Ipv4Addr, ops::Range, rc::Rc, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    bench::{Bench, Failed, Stopped},
    clients::{Client, Script, Stage},
    guards::{Guard, Running},
    harness::{
        Conduct, HTTP, POSTGRES, TCP, Upstream, block_on,
        bootstrap::Shipped,
        postgres::{Postgres, login_as},
    },
    record::{Group, Record},
    service::{Bears, Service, Speaks},
    table::{Bar, Column, Measured, Section, Wanted},
    talk::{ROLE, Talk},
};

const COLUMNS: &[Column] = &[
    Column::new("calm_percent", "calm ok %", 1),
    Column::new("peak", "peak", 0),
    Column::new("open_at_end", "at its end", 0),
    Column::new("ok_per_s", "ok/s", 1),
    Column::new("ok_percent", "ok %", 1),
    Column::new("p50_ms", "p50 ms", 0),
    Column::new("p99_ms", "p99 ms", 0),
    Column::new("attempts_per_s", "attempts/s", 0),
    Column::new("refused", "refused", 0),
    Column::new("normal_again_s", "again in s", 0),
];

const NORMAL: [Group; 1] = [Group::Normal];
const EVERYBODY: [Group; 2] = [Group::Normal, Group::Culprit];

const NORMAL_CLIENTS: u32 = 40;
/// Of each: 20 a second of all.
const EVERY: Duration = Duration::from_secs(2);
const CULPRITS: u32 = 300;
const RETRY: Duration = Duration::from_millis(100);
const NORMAL_PATIENCE: Duration = Duration::from_secs(2);
/// A pool waits longer.
const CULPRIT_PATIENCE: Duration = Duration::from_secs(5);
const CULPRIT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What is the same in all rows of a section.
struct Scene {
    shipped: Shipped,
    talk: Talk,
    normal_stay: Range<Duration>,
    culprit_stay: Range<Duration>,
}

/// What differs between the rows besides the guard.
#[derive(Clone, Copy, Default)]
struct How {
    /// Normal clients have an address each.
    spread: bool,
    /// Culprits come back when they are told to.
    honours: bool,
}

type Case = crate::bench::Case<How>;

fn case(slug: &'static str, name: &'static str, guard: Guard) -> Case {
    Case::new(slug, name, guard, How::default())
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The whole configuration: one limit. Time that is short is not enough to learn what is normal,
/// so then that is said.
fn one_limit(bench: &Bench) -> String {
    let hint = if bench.quick {
        r#","surge":{"baseline_per_s":20}"#
    } else {
        ""
    };
    format!(r#"{{"mode":"enforce","rules":[{{"name":"db","limits":{{"inflight":100}}{hint}}}]}}"#)
}

/// Over TCP.
pub fn tcp(bench: &mut Bench) -> Result<(), Stopped> {
    const LIMIT: &str = "- name: envoy.filters.network.connection_limit
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit
    stat_prefix: limit
    max_connections: 100";
    const LIMIT_AND_DELAY: &str = "- name: envoy.filters.network.connection_limit
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit
    stat_prefix: limit
    max_connections: 100
    delay: 1s";
    const RATE: &str = "- name: envoy.filters.network.local_ratelimit
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit
    stat_prefix: rate
    token_bucket: {max_tokens: 40, tokens_per_fill: 40, fill_interval: 1s}";
    let ours = one_limit(bench);
    let cases = [
        case("none", "none", Guard::None),
        case(
            "circuit_breaker",
            "Envoy circuit breaker 100",
            Guard::CircuitBreaker("max_connections: 100, max_pending_requests: 100"),
        )
        .long_only(),
        case(
            "connection_limit",
            "Envoy connection_limit 100",
            Guard::Filter(LIMIT),
        ),
        case(
            "connection_limit_delay",
            "Envoy connection_limit 100, delay 1s",
            Guard::Filter(LIMIT_AND_DELAY),
        )
        .long_only(),
        case(
            "local_ratelimit",
            "Envoy local_ratelimit 40/s",
            Guard::Filter(RATE),
        ),
        case(
            "haproxy_fifo",
            "HAProxy maxconn, FIFO 2 s",
            Guard::HaProxy(""),
        ),
        case(
            "haproxy_priority",
            "HAProxy, source rule by hand",
            Guard::HaProxy(
                "  tcp-request content set-priority-class int(-10) if { src 127.0.0.1 }",
            ),
        ),
        case(
            "haproxy_60_each",
            "HAProxy, 60 a source by hand",
            Guard::HaProxy(
                "  stick-table type ip size 100k expire 30s store conn_cur\n  \
                 tcp-request connection track-sc0 src\n  \
                 tcp-request connection reject if { sc0_conn_cur gt 60 }",
            ),
        )
        .long_only(),
        case("tidegate", "tidegate", Guard::Tidegate(ours.clone())),
        Case::new(
            "tidegate_spread",
            "tidegate, normal from 40 addresses",
            Guard::Tidegate(ours),
            How {
                spread: true,
                honours: false,
            },
        )
        .long_only(),
    ];
    let scene = Scene {
        shipped: TCP,
        talk: Talk::Echo,
        normal_stay: ms(900)..ms(1100),
        culprit_stay: ms(8_000)..ms(12_000),
    };
    let section = Section {
        slug: "tcp",
        title: title(bench, "TCP, 100 connections for the upstream"),
        of: "guard",
        columns: COLUMNS,
    };
    bench.section(section, cases, |bench, case| {
        let upstream = Upstream::start(Conduct::Echo);
        let guard = case.guard.start(scene.shipped, upstream.address);
        let open = || {
            let seen = upstream.seen();
            (seen.open, seen.peak)
        };
        let told = play(bench, &scene, case, &guard, &open)?;
        Ok(told.measured(case, 100.0))
    })
}

/// Over HTTP: requests instead of connections.
pub fn http(bench: &mut Bench) -> Result<(), Stopped> {
    const RATE: &str = "- name: envoy.filters.http.local_ratelimit
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: rate
    status: {code: ServiceUnavailable}
    token_bucket: {max_tokens: 40, tokens_per_fill: 40, fill_interval: 1s}
    filter_enabled: {default_value: {numerator: 100}}
    filter_enforced: {default_value: {numerator: 100}}";
    let ours = one_limit(bench);
    let cases = [
        case("none", "none", Guard::None),
        case(
            "circuit_breaker",
            "Envoy circuit breaker 100",
            Guard::CircuitBreaker(
                "max_connections: 100, max_pending_requests: 100, max_requests: 100",
            ),
        ),
        case(
            "local_ratelimit",
            "Envoy local_ratelimit 40/s",
            Guard::Filter(RATE),
        )
        .long_only(),
        case(
            "tidegate",
            "tidegate, retry-after ignored",
            Guard::Tidegate(ours.clone()),
        ),
        Case::new(
            "tidegate_honoured",
            "tidegate, retry-after honoured",
            Guard::Tidegate(ours),
            How {
                spread: false,
                honours: true,
            },
        ),
    ];
    let scene = Scene {
        shipped: HTTP,
        talk: Talk::HttpHold,
        normal_stay: ms(900)..ms(1100),
        culprit_stay: ms(8_000)..ms(12_000),
    };
    let section = Section {
        slug: "http",
        title: title(bench, "HTTP, 100 requests for the upstream"),
        of: "guard",
        columns: COLUMNS,
    };
    bench.section(section, cases, |bench, case| {
        let upstream = Service::start(Speaks::Http, Bears::ALL);
        let guard = case.guard.start(scene.shipped, upstream.address);
        let open = || (upstream.open(), upstream.peak());
        let told = play(bench, &scene, case, &guard, &open)?;
        Ok(told.measured(case, 100.0))
    })
}

/// Before a real PostgreSQL.
pub fn postgres(bench: &mut Bench) -> Result<(), Stopped> {
    const MAX_CONNECTIONS: u32 = 50;
    let hint = if bench.quick {
        r#","surge":{"baseline_per_s":20}"#
    } else {
        ""
    };
    let ours = format!(
        r#"{{"mode":"enforce","rules":[{{"name":"db","protocol":"postgres","limits":{{"inflight":45}},"reject":{{"tcp":"protocol","cluster":"tidegate-refuse"}}{hint}}}]}}"#
    );
    let cases = [
        case("none", "none", Guard::None),
        case("pgbouncer", "PgBouncer, by transaction", Guard::PgBouncer),
        case("tidegate", "tidegate, limit 45", Guard::Tidegate(ours)),
    ];
    let scene = Scene {
        shipped: POSTGRES,
        talk: Talk::Postgres,
        normal_stay: ms(400)..ms(600),
        culprit_stay: ms(4_000)..ms(6_000),
    };
    let section = Section {
        slug: "postgres",
        title: title(
            bench,
            "PostgreSQL, max_connections 50 (3 of them reserved); a normal client stays for 0.5 s \
             and one of the surge for 5 s, in a transaction",
        ),
        of: "guard",
        columns: COLUMNS,
    };
    bench.section(section, cases, |bench, case| {
        let server = Postgres::for_sessions(MAX_CONNECTIONS);
        make_role(&server)?;
        let guard = case.guard.start(scene.shipped, server.address);
        let sessions = Sessions::default();
        let open = || sessions.seen.get();
        let script = bench.script_for(&case.guard);
        let load = load(&scene, case, &guard, script, &open);
        let told = bench.run(async {
            tokio::select! {
                told = load => Ok(told),
                error = sessions.watch(&server) => Err(Failed::Here(error)),
            }
        })??;
        Ok(told.measured(case, 45.0))
    })
}

fn make_role(server: &Postgres) -> Result<(), Failed> {
    block_on(async {
        let admin = login_as(
            "app",
            server.address,
            tokio_postgres::config::SslMode::Disable,
        );
        let make = format!("CREATE ROLE {ROLE} LOGIN");
        admin.await?.batch_execute(&make).await
    })
    .map_err(|error: tokio_postgres::Error| Failed::Here(error.to_string()))
}

/// How many sessions the clients have, by PostgreSQL's own word: now, and at most.
#[derive(Default)]
struct Sessions {
    seen: Cell<(usize, usize)>,
}

impl Sessions {
    /// Asks ten times a second, in a session that is reserved for superusers, until that fails.
    async fn watch(&self, server: &Postgres) -> String {
        let look = async {
            let mode = tokio_postgres::config::SslMode::Disable;
            let admin = login_as("app", server.address, mode).await?;
            let question =
                format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
            loop {
                let count: i64 = admin.query_one(&question, &[]).await?.get(0);
                let open = usize::try_from(count).unwrap_or(0);
                self.seen.set((open, self.seen.get().1.max(open)));
                sleep(ms(100)).await;
            }
        };
        let ended: Result<(), tokio_postgres::Error> = look.await;
        ended.map_or_else(|error| error.to_string(), |()| String::new())
    }
}

fn title(bench: &Bench, what: &str) -> String {
    format!(
        "{what}: {NORMAL_CLIENTS} normal clients make 20 a second; then {CULPRITS} others from one \
         address for {} s, again {} ms after a refusal",
        bench.script().surge.as_secs(),
        RETRY.as_millis()
    )
}

/// What was seen in a run.
struct Told {
    record: Record,
    script: Script,
    peak: usize,
    open_at_end: usize,
    guard: Value,
}

fn play(
    bench: &mut Bench,
    scene: &Scene,
    case: &Case,
    guard: &Running,
    open: &dyn Fn() -> (usize, usize),
) -> Result<Told, Failed> {
    let script = bench.script_for(&case.guard);
    bench.run(load(scene, case, guard, script, open))
}

/// Runs the load.
async fn load(
    scene: &Scene,
    case: &Case,
    guard: &Running,
    script: Script,
    open: &dyn Fn() -> (usize, usize),
) -> Told {
    let stage = Stage::begin();
    let client = |group, who, from, patience, stay: &Range<Duration>| Client {
        group,
        who,
        from,
        to: guard.address,
        talk: scene.talk.clone(),
        patience,
        stay: stay.clone(),
    };
    let mut open_at_end = 0;
    let normal = |tasks: &mut tokio::task::JoinSet<()>| {
        for who in 0..NORMAL_CLIENTS {
            let host = u8::try_from(who + 1).unwrap_or(1);
            let from = if case.how.spread {
                Ipv4Addr::new(127, 0, 2, host)
            } else {
                Ipv4Addr::LOCALHOST
            };
            let stay = &scene.normal_stay;
            let client = client(Group::Normal, who, from, NORMAL_PATIENCE, stay);
            let first = EVERY * who / NORMAL_CLIENTS;
            tasks.spawn_local(client.come_steadily(Rc::clone(&stage), EVERY, first));
        }
    };
    let surge = |tasks: &mut tokio::task::JoinSet<()>| {
        for who in 0..CULPRITS {
            let who = NORMAL_CLIENTS + who;
            let stay = &scene.culprit_stay;
            let client = client(Group::Culprit, who, CULPRIT, CULPRIT_PATIENCE, stay);
            tasks.spawn_local(client.come_greedily(Rc::clone(&stage), RETRY, case.how.honours));
        }
    };
    script
        .play(normal, surge, || (open_at_end, _) = open())
        .await;
    Told {
        record: stage.record.take(),
        script,
        peak: open().1,
        open_at_end,
        guard: guard.told(),
    }
}

impl Told {
    fn measured(&self, case: &Case, limit: f64) -> Measured {
        let (record, script) = (&self.record, &self.script);
        let surge = script.surge();
        let seconds = script.surge.as_secs_f64();
        let calm = record.tally(&NORMAL, &script.calm());
        let normal = record.tally(&NORMAL, &surge);
        let all = record.tally(&EVERYBODY, &surge);
        let millis = |part| {
            let quantile: Option<Duration> = normal.quantile(part);
            quantile.map(|took| took.as_secs_f64() * 1000.0)
        };
        let ok_per_s = normal.served.len() as f64 / seconds;
        let attempts_per_s = record.tries(&surge) as f64 / seconds;
        let again = record.normal_again(&NORMAL, &script.after(), Duration::ZERO);
        let values = vec![
            Some(calm.share() * 100.0),
            Some(self.peak as f64),
            Some(self.open_at_end as f64),
            Some(ok_per_s),
            Some(normal.share() * 100.0),
            millis(0.5),
            millis(0.99),
            Some(attempts_per_s),
            Some((all.refused + all.timed_out) as f64),
            again.map(f64::from),
        ];
        let mut wanted = Vec::new();
        if matches!(case.guard, Guard::Tidegate(_)) {
            let mut want = |what, value, bar| wanted.push(Wanted { what, value, bar });
            want("peak", Some(self.peak as f64), Bar::AtMost(limit));
            want(
                "normal clients served/s",
                Some(ok_per_s),
                Bar::AtLeast(19.5),
            );
            want("p99 ms of normal clients", millis(0.99), Bar::AtMost(110.0));
            want("attempts/s", Some(attempts_per_s), Bar::AtMost(200.0));
        }
        Measured {
            values,
            wanted,
            served_by_second: record.served_by_second(&NORMAL, &script.shown()),
            told: self.guard.clone(),
        }
    }
}
