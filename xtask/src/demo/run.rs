//! One run: the clients, the watch over the servers, and what came of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::{
    LIMIT,
    cast::{Envoy, Postgres},
    load::{self, Attempt, Book, Who},
    stats::Stats,
    view::{self, Paint, Phase, Second},
};

/// The seconds before and after the surge.
const CALM: u32 = 5;
const AFTER: u32 = 5;
/// How often the servers are asked what they have.
const WATCH: Duration = Duration::from_millis(100);
/// So long may it take until everything has been given back at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// What a run is played on.
pub struct Stage<'a> {
    /// The database.
    pub postgres: &'a mut Postgres,
    /// In front of it.
    pub envoy: Envoy,
    /// Whether the plugin is in Envoy.
    pub guarded: bool,
    /// How long the surge lasts.
    pub surge_seconds: u32,
    /// How many clients it has.
    pub surge_clients: u32,
    /// Where they come from.
    pub surge_source: Ipv4Addr,
}

/// What came of a run.
pub struct Report {
    /// The most connections at PostgreSQL.
    pub peak_database: u32,
    /// The most connections from Envoy to PostgreSQL.
    pub peak_upstream: u64,
    /// How often both were looked at.
    pub looks: u32,
    /// What PostgreSQL refused, by its log.
    pub database_refusals: u64,
    /// What tidegate refused.
    pub guard_refusals: Option<u64>,
    /// Connections that tidegate let in, and whose clients never learned of it.
    pub abandoned: Option<u64>,
    /// Faults that tidegate has counted.
    pub faults: Option<u64>,
    /// What is still open at the end: the plugin's count and Envoy's.
    pub left: Option<(u64, u64)>,
    /// When the surge was.
    pub surge: Range<Duration>,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// Every second.
    pub seconds: Vec<Second>,
}

impl Report {
    /// Whether Envoy never had more open than the limit, and nothing was left at the end.
    pub fn guard_held(&self) -> bool {
        self.peak_upstream <= u64::from(LIMIT) && self.left.is_none_or(|left| left == (0, 0))
    }
}

/// What was there at one moment.
#[derive(Default)]
struct Totals {
    offered: u64,
    admitted: u64,
    held: Option<u64>,
    refused: u64,
    ended: usize,
}

/// Plays one run, one line a second.
pub async fn run(stage: Stage<'_>, paint: Paint) -> Result<Report> {
    let Stage {
        postgres,
        mut envoy,
        guarded,
        surge_seconds,
        surge_clients,
        surge_source,
    } = stage;
    let refusals_before = postgres.refusals()?;
    let (app, operator) = (postgres.account("app"), postgres.account("operator"));
    let book = Book::new();
    let begin = Instant::now();
    let normal = load::normal(envoy.listener, &app, &book);
    let _operator = load::operator(postgres.address, &operator, &book);
    let mut surge = None;
    let (surge_begin, surge_end) = (CALM, CALM + surge_seconds);
    let mut peak = Peak::default();
    let mut seconds = Vec::new();
    let mut before = Totals::default();
    for number in 0..surge_end + AFTER {
        if number == surge_begin {
            surge = Some(load::surge(
                envoy.listener,
                surge_source,
                &app,
                surge_clients,
                &book,
            ));
        } else if number == surge_end {
            surge = None;
        }
        let end = begin + Duration::from_secs(u64::from(number) + 1);
        let database = watch(postgres, envoy.admin, end, &mut peak).await?;
        postgres.check()?;
        envoy.check()?;

        let now = totals(&envoy, guarded, &book).await?;
        let (normal_done, normal_ended) = normal_since(&book, before.ended);
        let second = Second {
            phase: match number {
                _ if number < surge_begin => Phase::Calm,
                _ if number < surge_end => Phase::Surge,
                _ => Phase::After,
            },
            offered: now.offered - before.offered,
            admitted: now.admitted - before.admitted,
            held: now.held.map(|held| held - before.held.unwrap_or_default()),
            refused: now.refused - before.refused,
            database,
            normal_done,
            normal_ended,
        };
        before = now;
        println!("{}", view::line(paint, number as usize + 1, &second));
        seconds.push(second);
    }
    drop((normal, surge));

    let (left, stats) = drained(&envoy).await?;
    // The next run begins with an idle database.
    let since = Instant::now();
    while postgres.connections().await? > 0 && since.elapsed() < DRAIN {
        sleep(WATCH).await;
    }
    let notes = std::mem::take(&mut *book.notes());
    let admitted = stats.sum("tidegate_admitted_total");
    let at = |second: u32| Duration::from_secs(u64::from(second));
    Ok(Report {
        peak_database: peak.database,
        peak_upstream: peak.upstream,
        looks: peak.looks,
        database_refusals: postgres.refusals()? - refusals_before,
        guard_refusals: stats.sum("tidegate_rejected_total"),
        faults: stats.sum("tidegate_faults_total"),
        left: guarded.then_some(left),
        surge: at(surge_begin)..at(surge_end),
        abandoned: admitted.map(|admitted| admitted.saturating_sub(notes.admitted)),
        attempts: notes.attempts,
        seconds,
    })
}

/// The most that was seen.
#[derive(Default)]
struct Peak {
    database: u32,
    upstream: u64,
    looks: u32,
}

/// Watches both servers until `end`; the connections at PostgreSQL then.
async fn watch(
    postgres: &Postgres,
    admin: SocketAddr,
    end: Instant,
    peak: &mut Peak,
) -> Result<u32> {
    let mut ticks = interval(WATCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut database = 0;
    while Instant::now() + WATCH < end {
        ticks.tick().await;
        database = postgres.connections().await?;
        peak.database = peak.database.max(database);
        peak.upstream = peak.upstream.max(from_envoy(&Stats::read(admin).await?));
        peak.looks += 1;
    }
    sleep_until(end).await;
    Ok(database)
}

/// The connections that Envoy has open to PostgreSQL.
fn from_envoy(stats: &Stats) -> u64 {
    stats
        .sum(r#"envoy_cluster_upstream_cx_active{envoy_cluster_name="postgres"}"#)
        .unwrap_or(0)
}

/// What has happened so far: by the plugin's metrics, and by the clients' notes without it.
async fn totals(envoy: &Envoy, guarded: bool, book: &Book) -> Result<Totals> {
    let (offered, admitted, failed, ended) = {
        let notes = book.notes();
        let through_envoy = notes.attempts.iter().filter(|a| a.who != Who::Operator);
        let failed = through_envoy.filter(|a| a.result.is_err()).count();
        (notes.offered, notes.admitted, failed, notes.attempts.len())
    };
    if !guarded {
        return Ok(Totals {
            offered,
            admitted,
            held: None,
            refused: failed as u64,
            ended,
        });
    }
    let stats = Stats::read(envoy.admin).await?;
    let metric = |name: &str| {
        stats
            .sum(name)
            .with_context(|| format!("tidegate does not show the metric {name}"))
    };
    Ok(Totals {
        offered: metric("tidegate_arrivals_total")?,
        admitted: metric("tidegate_admitted_total")?,
        held: Some(metric("tidegate_held_total")?),
        refused: metric("tidegate_rejected_total")?,
        ended,
    })
}

/// The normal clients' attempts that have ended since there were `ended`: done, and all.
fn normal_since(book: &Book, ended: usize) -> (usize, usize) {
    let notes = book.notes();
    let normal = notes.attempts.iter().skip(ended);
    let normal: Vec<&Attempt> = normal.filter(|a| a.who == Who::Normal).collect();
    let done = normal.iter().filter(|a| a.result.is_ok()).count();
    (done, normal.len())
}

/// Waits until nothing is open any more: the plugin's count and Envoy's, and the last metrics.
async fn drained(envoy: &Envoy) -> Result<((u64, u64), Stats)> {
    let since = Instant::now();
    loop {
        let stats = Stats::read(envoy.admin).await?;
        let inflight = stats.sum("tidegate_inflight").unwrap_or(0);
        let waiting = stats.sum("tidegate_waiting").unwrap_or(0);
        let left = (inflight + waiting, from_envoy(&stats));
        if left == (0, 0) || since.elapsed() > DRAIN {
            return Ok((left, stats));
        }
        sleep(WATCH).await;
    }
}
