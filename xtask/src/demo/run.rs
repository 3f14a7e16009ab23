//! One run: the clients, the watch over the servers, and what came of it.

use std::{net::SocketAddr, ops::Range, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    LIMIT,
    cast::{Envoy, Postgres},
    events::{Event, Log},
    load::{self, Attempt, Book, Group},
    stats::Stats,
    view::{self, Column, Paint, Phase, Second, Served},
};

/// How often the servers are asked what they have.
const WATCH: Duration = Duration::from_millis(100);
/// So long may it take until everything has been given back at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Who does what in a run, and when.
pub struct Plan {
    /// The seconds before the surge, of it, and after it.
    pub seconds: [u32; 3],
    /// The clients; they are known by their numbers.
    pub groups: Vec<Group>,
    /// Which of them are shown.
    pub columns: Vec<Column>,
    /// What is said of an event of tidegate's when it happens.
    pub remark: fn(&Event) -> Option<String>,
}

impl Plan {
    /// The part of the run that a second is in; none after its end.
    fn phase(&self, second: u32) -> Option<Phase> {
        let [calm, surge, after] = self.seconds;
        match second {
            _ if second < calm => Some(Phase::Calm),
            _ if second < calm + surge => Some(Phase::Surge),
            _ if second < calm + surge + after => Some(Phase::After),
            _ => None,
        }
    }

    /// When the surge is.
    fn surge(&self) -> Range<Duration> {
        let [calm, surge, _] = self.seconds.map(u64::from);
        Duration::from_secs(calm)..Duration::from_secs(calm + surge)
    }
}

/// What a run is played on.
pub struct Stage<'a> {
    /// The database.
    pub postgres: &'a mut Postgres,
    /// In front of it.
    pub envoy: Envoy,
    /// Whether the plugin is in Envoy.
    pub guarded: bool,
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
    /// When the surge was, from the begin of the run.
    pub surge: Range<Duration>,
    /// When it began, by the clock.
    pub surge_at: Timestamp,
    /// What tidegate said.
    pub events: Vec<Event>,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// Every second.
    pub seconds: Vec<Second>,
}

impl Report {
    /// Whether Envoy never had more open than the limit, and nothing was left at the end.
    pub fn limit_held(&self) -> bool {
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
pub async fn run(stage: Stage<'_>, plan: &Plan, paint: Paint) -> Result<Report> {
    let Stage {
        postgres,
        mut envoy,
        guarded,
    } = stage;
    let refusals_before = postgres.refusals()?;
    let mut log = Log::new(envoy.log().to_owned());
    let mut events = Vec::new();
    let book = Book::new();
    let begin = Instant::now();
    let surge = plan.surge();
    let surge_at = Timestamp::now() + surge.start;
    let mut clients = Clients::none(&plan.groups);
    let mut peak = Peak::default();
    let mut seconds = Vec::new();
    let mut before = Totals::default();
    for number in 0.. {
        let Some(phase) = plan.phase(number) else {
            break;
        };
        clients.change(phase, &plan.groups, &book);
        let end = begin + Duration::from_secs(u64::from(number) + 1);
        let database = watch(postgres, envoy.admin, end, &mut peak).await?;
        postgres.check()?;
        envoy.check()?;

        let now = totals(&envoy, guarded, &book).await?;
        let second = Second {
            phase,
            offered: now.offered - before.offered,
            admitted: now.admitted - before.admitted,
            held: now.held.map(|held| held - before.held.unwrap_or_default()),
            refused: now.refused - before.refused,
            database,
            served: served_since(&book, before.ended, &plan.columns),
        };
        before = now;
        println!(
            "{}",
            view::line(paint, &plan.columns, number as usize + 1, &second)
        );
        seconds.push(second);
        for event in log.more()? {
            if let Some(remark) = (plan.remark)(&event) {
                println!("       {remark}");
            }
            events.push(event);
        }
    }
    drop(clients);

    let (left, stats) = drained(&envoy).await?;
    events.extend(log.more()?);
    // The next run begins with an idle database.
    let since = Instant::now();
    while postgres.connections().await? > 0 && since.elapsed() < DRAIN {
        sleep(WATCH).await;
    }
    let notes = std::mem::take(&mut *book.notes());
    let admitted = stats.sum("tidegate_admitted_total");
    Ok(Report {
        peak_database: peak.database,
        peak_upstream: peak.upstream,
        looks: peak.looks,
        database_refusals: postgres.refusals()? - refusals_before,
        guard_refusals: stats.sum("tidegate_rejected_total"),
        faults: stats.sum("tidegate_faults_total"),
        left: guarded.then_some(left),
        surge,
        surge_at,
        events,
        abandoned: admitted.map(|admitted| admitted.saturating_sub(notes.admitted)),
        attempts: notes.attempts,
        seconds,
    })
}

/// The clients that are there. They end when this is dropped.
struct Clients(Vec<Option<JoinSet<()>>>);

impl Clients {
    /// Nobody, of so many groups.
    fn none(groups: &[Group]) -> Self {
        Self(groups.iter().map(|_| None).collect())
    }

    /// Lets those come who are there in that part of the run, and the others go.
    fn change(&mut self, phase: Phase, groups: &[Group], book: &Book) {
        for (number, (there, group)) in self.0.iter_mut().zip(groups).enumerate() {
            if !group.when.includes(phase) {
                *there = None;
            } else if there.is_none() {
                *there = Some(load::start(number, group, book));
            }
        }
    }
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
        let ended = notes.attempts.len();
        (notes.offered, notes.admitted, notes.failed, ended)
    };
    if !guarded {
        return Ok(Totals {
            offered,
            admitted,
            held: None,
            refused: failed,
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

/// What became of those in each column, since so many attempts had ended.
fn served_since(book: &Book, ended: usize, columns: &[Column]) -> Vec<Served> {
    let notes = book.notes();
    let of = |column: &Column| {
        let mut served = Served::default();
        for attempt in notes.attempts.iter().skip(ended) {
            if column.groups.contains(&attempt.group) {
                served.count(attempt.result.is_ok());
            }
        }
        served
    };
    columns.iter().map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_three_parts() {
        let plan = Plan {
            seconds: [2, 3, 1],
            groups: Vec::new(),
            columns: Vec::new(),
            remark: |_| None,
        };
        let phases: Vec<_> = (0..).map_while(|second| plan.phase(second)).collect();
        let (calm, surge, after) = (Phase::Calm, Phase::Surge, Phase::After);
        assert_eq!(phases, [calm, calm, surge, surge, surge, after]);
        assert_eq!(plan.surge(), Duration::from_secs(2)..Duration::from_secs(5));
    }
}
