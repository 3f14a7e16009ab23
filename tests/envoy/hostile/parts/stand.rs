//! One Envoy before an API, a TCP service, PostgreSQL and MySQL.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{
    crowd::{Stage, connect, words},
    fickle::{Fickle, Mood, Speaks},
    vices::Client,
};
use crate::harness::{
    Bootstrap, Delivered, Envoy, HTTP, MYSQL, PATIENCE, POSTGRES, TCP, metrics::Metrics,
    postgres::Postgres,
};

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Api,
    Service,
    Postgres,
    Mysql,
}

impl Door {
    pub const ALL: [Self; 4] = [Self::Api, Self::Service, Self::Postgres, Self::Mysql];

    /// The listener in front of it.
    pub const fn listener(self) -> &'static str {
        match self {
            Self::Api => HTTP.listener,
            Self::Service => TCP.listener,
            Self::Postgres => POSTGRES.listener,
            Self::Mysql => MYSQL.listener,
        }
    }

    /// The rule that guards it.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Service => "service",
            Self::Postgres => "orders-db",
            Self::Mysql => "orders-mysql",
        }
    }

    /// As many may be open at once.
    pub const fn limit(self) -> usize {
        match self {
            Self::Api | Self::Service => 40,
            Self::Postgres => 30,
            Self::Mysql => 10,
        }
    }

    fn limits(self) -> String {
        format!(r#"{{"inflight": {}}}"#, self.limit())
    }
}

/// Where requests say who they are.
pub const CALLER: &str = "x-caller";

/// Before these upstreams, in the order of [`Door::ALL`].
fn bootstrap(upstreams: [SocketAddr; 4]) -> Bootstrap {
    let [api, service, postgres, mysql] = upstreams;
    let api = HTTP
        .before(api)
        .limits(&Door::Api.limits())
        .with(&format!(r#""key": "header:{CALLER}""#));
    let service = TCP.before(service).limits(&Door::Service.limits());
    let postgres = POSTGRES
        .before(postgres)
        .limits(&Door::Postgres.limits())
        .with(r#""key": "postgres.application_name""#);
    let mysql = MYSQL.before(mysql).limits(&Door::Mysql.limits());
    // Its refusals go another way, and its rule has another name.
    let mysql = Bootstrap {
        text: mysql
            .text
            .replace("tidegate-refuse", "tidegate-refuse-mysql")
            .replace("orders-db", Door::Mysql.rule()),
    };
    postgres.beside(&api).beside(&service).beside(&mysql)
}

/// The Envoy, its upstreams, and what it is configured by.
pub struct Stand {
    pub envoy: Envoy,
    /// In the order of [`Door::ALL`], as the next two.
    pub doors: [SocketAddr; 4],
    pub upstreams: [Fickle; 4],
    delivered: Delivered,
    configuration: Bootstrap,
    machines: f64,
    _database: Arc<Postgres>,
}

impl Stand {
    /// Starts all of it.
    pub fn start(workers: u32, stage: &Stage) -> Self {
        let database = Postgres::shared();
        let speaks = [
            Speaks::Http,
            Speaks::Echo,
            Speaks::PassesTo(database.address),
            Speaks::Echo,
        ];
        let upstreams = speaks.map(|speaks| Fickle::start(speaks, stage.clone()));
        let configuration = bootstrap([0, 1, 2, 3].map(|door: usize| upstreams[door].address));
        let delivered = Delivered::first(&configuration);
        // Those of a configuration that was replaced are gone soon, as Envoy closes them.
        let drain = ["--drain-time-s", "5"];
        let envoy = Envoy::start_with(&delivered.bootstrap, workers, &drain);
        let doors = Door::ALL.map(|door| envoy.listener(door.listener()));
        let machines = machines(&envoy.metrics());
        Self {
            envoy,
            doors,
            upstreams,
            delivered,
            configuration,
            machines,
            _database: database,
        }
    }

    /// Where the listener in front of it is.
    pub fn door(&self, door: Door) -> SocketAddr {
        let doors = Door::ALL.iter().zip(self.doors);
        let found = doors.into_iter().find(|(one, _)| **one == door);
        found.expect("one of all").1
    }

    /// Replaces the configuration of every listener; each time by one that holds a little longer.
    pub fn replace_configuration(&self, times: usize) {
        let hold = format!(r#""max_wait": "{}ms""#, 100 + times % 50);
        self.delivered.put(&Bootstrap {
            text: self
                .configuration
                .text
                .replace(r#""max_wait": "100ms""#, &hold),
        });
    }

    /// Virtual machines that failed: started anew, or gone.
    pub fn traps(&self, metrics: &Metrics) -> f64 {
        let reloads = ["success", "failure", "backoff"].iter();
        let reloads = reloads.map(|end| {
            let name = format!("envoy_wasm_tidegate_vm_reload_{end}");
            metrics.sum(&name, &[])
        });
        let gone = self.machines - machines(metrics);
        reloads.sum::<f64>() + gone.max(0.0)
    }

    /// By how many the upstreams have seen more open than the limits, at most.
    pub fn above_limits(&self) -> usize {
        let both = Door::ALL.iter().zip(&self.upstreams);
        let above = both.map(|(door, upstream)| {
            let above = upstream.peak().saturating_sub(door.limit());
            if above > 0 {
                eprintln!(
                    "{}: {} of {} were open",
                    door.rule(),
                    upstream.peak(),
                    door.limit()
                );
            }
            above
        });
        above.sum()
    }

    /// What the plugin, Envoy and the upstreams still have open when everybody has left; waits for
    /// the last of it.
    pub fn left_open(&self) -> f64 {
        let since = Instant::now();
        loop {
            let metrics = self.envoy.metrics();
            let left = over_all(&metrics, "tidegate_inflight")
                + over_all(&metrics, "tidegate_waiting")
                + metrics.sum("envoy_listener_downstream_cx_active", &[])
                + metrics.sum("envoy_cluster_upstream_rq_active", &[])
                + self.upstreams.iter().map(Fickle::open).sum::<usize>() as f64;
            if left == 0.0 || since.elapsed() > PATIENCE {
                return left;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many of all slots can't be had: new callers come to upstreams that answer nobody, until
    /// every slot is taken. Nobody else may come.
    pub fn lost_slots(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let lost = Door::ALL.into_iter().enumerate().map(|(index, door)| {
            let upstream = &self.upstreams[index];
            upstream.be(Mood::Hangs);
            let open = runtime.block_on(fill(door, self.doors[index], upstream));
            upstream.be(Mood::Well);
            if open < door.limit() {
                let told = self.envoy.metrics().told();
                eprintln!(
                    "{}: {open} of {} are open;{told}",
                    door.rule(),
                    door.limit()
                );
            }
            door.limit().saturating_sub(open)
        });
        lost.sum()
    }
}

/// How many of its slots newcomers get, one for each.
async fn fill(door: Door, to: SocketAddr, upstream: &Fickle) -> usize {
    /// What is kept for callers who are gone fades with a time constant of 10 s.
    const PATIENCE: Duration = Duration::from_secs(120);
    let since = Instant::now();
    let (mut streams, mut number) = (Vec::<TcpStream>::new(), 0xf0_0000);
    loop {
        for _ in upstream.open()..door.limit() {
            number += 1;
            let Ok(mut stream) = connect(Client::new(number).address(), to).await else {
                continue;
            };
            let said = stream
                .write_all(&words(door, &format!("new-{number}")))
                .await;
            streams.extend(said.ok().map(|()| stream));
        }
        sleep(Duration::from_millis(250)).await;
        let open = upstream.open();
        if open >= door.limit() || since.elapsed() > PATIENCE {
            return open;
        }
    }
}

/// A metric, over all rules.
pub fn over_all(metrics: &Metrics, name: &str) -> f64 {
    let rules = Door::ALL.iter();
    rules.map(|door| metrics.rule(door.rule(), name)).sum()
}

/// Virtual machines that there are.
fn machines(metrics: &Metrics) -> f64 {
    metrics.sum("envoy_wasm_envoy_wasm_runtime_v8_active", &[])
}
