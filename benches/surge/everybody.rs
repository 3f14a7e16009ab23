//! Many small users and an upstream that does less when too many are in: all of them come more
//! often, or one does who has the address of others.

use std::{cell::Cell, net::Ipv4Addr, ops::Range, rc::Rc, time::Duration};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Case, Stopped},
    clients::{Client, Script, Stage},
    guards::{Guard, Running},
    harness::{HTTP, TCP},
    record::{Group, Record, ratio},
    service::{Bears, Service, Speaks},
    table::{Bar, Column, Measured, Section, Wanted},
    talk::Talk,
};

/// The upstream does 200 a second, 40 at once; with 100 at once it is down to 126.
const SLOTS: usize = 40;
const BEARS: Bears = Bears {
    slots: SLOTS,
    most: 100,
};
const WORK: Range<Duration> = Duration::from_millis(180)..Duration::from_millis(220);
const PATIENCE: Duration = Duration::from_secs(1);
/// Not counted at the beginning of the surge: what must be noticed before it is acted upon.
const SETTLING: Duration = Duration::from_secs(3);

const COLUMNS: &[Column] = &[
    Column::new("calm_percent", "calm ok %", 1),
    Column::new("peak", "peak", 0),
    Column::new("ok_per_s", "ok/s", 1),
    Column::new("times_none", "x none", 2),
    Column::new("ok_percent", "ok %", 1),
    Column::new("mixed_percent", "mixed %", 1),
    Column::new("always_percent", "always %", 1),
    Column::new("never_percent", "never %", 1),
    Column::new("p50_ms", "p50 ms", 0),
    Column::new("p99_ms", "p99 ms", 0),
    Column::new("attempts_per_s", "attempts/s", 0),
    Column::new("normal_again_s", "again in s", 0),
];

/// Users who come three times as often, each from an address of their own.
pub fn more_of_all(bench: &mut Bench) -> Result<(), Stopped> {
    const USERS: u8 = 60;
    /// Together 112 a second, and 336 in the surge.
    const PER_S: f64 = 112.0 / USERS as f64;
    const MORE: f64 = 3.0;
    let hint = hint(bench, 112);
    let ours = format!(
        r#"{{"mode":"enforce","rules":[{{"name":"db","limits":{{"inflight":{SLOTS}}}{hint}}}]}}"#
    );
    let cases = [
        Case::new("none", "none", Guard::None, ()),
        Case::new("tidegate", "tidegate", Guard::Tidegate(ours), ()),
    ];
    let section = Section {
        slug: "everybody",
        title: format!(
            "TCP, everybody comes three times as often: {USERS} users make 112 a second and then \
             336, the upstream does 200 a second with up to {SLOTS} connections, less with more, \
             and refuses more than {}; clients give up after 1 s, and try three times. Users by whether each was \
             served always, never, or now and then",
            BEARS.most
        ),
        of: "guard",
        columns: COLUMNS,
    };
    let mut none_per_s = None;
    bench.section(section, cases, |bench, case| {
        let upstream = Service::start(Speaks::Tcp, BEARS);
        let guard = case.guard.start(TCP, upstream.address);
        let script = script_for(bench, &case.guard);
        let load = async {
            let stage = Stage::begin();
            let rate = Rc::new(Cell::new(PER_S));
            let normal = |tasks: &mut JoinSet<()>| {
                for who in 0..USERS {
                    let from = Ipv4Addr::new(127, 0, 1, who + 1);
                    let client = user(Group::Normal, who, from, &guard, Talk::Work);
                    tasks.spawn_local(client.come_often(Rc::clone(&stage), Rc::clone(&rate)));
                }
            };
            let surge = |_: &mut JoinSet<()>| rate.set(PER_S * MORE);
            script.play(normal, surge, || rate.set(PER_S)).await;
            stage.record.take()
        };
        let seen = Seen {
            record: bench.run(load)?,
            script,
            peak: upstream.peak(),
            guard: guard.told(),
        };
        let (mut measured, mixed, per_s) = seen.measured(&[Group::Normal], none_per_s);
        if matches!(case.guard, Guard::None) {
            none_per_s = Some(per_s);
        } else {
            let mut want = |what, value, bar| measured.wanted.push(Wanted { what, value, bar });
            want(
                "% of users served now and then",
                Some(mixed),
                Bar::AtMost(15.0),
            );
            want(
                "served, x none",
                none_per_s.map(|none| ratio(per_s, none)),
                Bar::AtLeast(1.4),
            );
            want("peak", Some(seen.peak as f64), Bar::AtMost(SLOTS as f64));
        }
        Ok(measured)
    })
}

/// One user behind an address that others have, too, makes it come five times as often.
pub fn behind_one_address(bench: &mut Bench) -> Result<(), Stopped> {
    const BESIDE: u8 = 20;
    const ELSEWHERE: u8 = 20;
    const PER_S: f64 = 2.5;
    const MORE: f64 = 5.0;
    /// What the culprit adds, so that its address comes five times as often.
    const CULPRIT_PER_S: f64 = (MORE - 1.0) * PER_S * (BESIDE + 1) as f64;
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    let hint = hint(bench, 100);
    let ours = |more: &str| {
        format!(
            r#"{{"mode":"enforce","rules":[{{"name":"db","limits":{{"inflight":{SLOTS}}}{more}{hint}}}]}}"#
        )
    };
    let cases = [
        Case::new("none", "none", Guard::None, ()),
        Case::new("tidegate", "tidegate", Guard::Tidegate(ours("")), ()).long_only(),
        Case::new(
            "tidegate_sticky",
            "tidegate, sticky: header:x-user",
            Guard::Tidegate(ours(r#","sticky":"header:x-user""#)),
            (),
        ),
    ];
    let section = Section {
        slug: "shared",
        title: format!(
            "HTTP, one user makes an address come five times as often that {BESIDE} others have, \
             too: 105 requests a second and then 315, {ELSEWHERE} users have addresses of their \
             own; the upstream as above. The innocent, beside the culprit and elsewhere"
        ),
        of: "guard",
        columns: SHARED_COLUMNS,
    };
    bench.section(section, cases, |bench, case| {
        let upstream = Service::start(Speaks::Http, BEARS);
        let guard = case.guard.start(HTTP, upstream.address);
        let script = script_for(bench, &case.guard);
        let load = async {
            let stage = Stage::begin();
            let rate = Rc::new(Cell::new(PER_S));
            let come = |tasks: &mut JoinSet<()>, group, who, from, rate: &Rc<Cell<f64>>| {
                let talk = Talk::HttpWork {
                    user: format!("user-{who}"),
                };
                let client = user(group, who, from, &guard, talk);
                tasks.spawn_local(client.come_often(Rc::clone(&stage), Rc::clone(rate)));
            };
            let normal = |tasks: &mut JoinSet<()>| {
                for who in 0..BESIDE {
                    come(tasks, Group::Beside, who, ADDRESS, &rate);
                }
                for who in 0..ELSEWHERE {
                    let from = Ipv4Addr::new(127, 0, 1, who + 1);
                    come(tasks, Group::Normal, BESIDE + who, from, &rate);
                }
                come(tasks, Group::Culprit, BESIDE + ELSEWHERE, ADDRESS, &rate);
            };
            let often = Rc::new(Cell::new(CULPRIT_PER_S));
            let surge = |tasks: &mut JoinSet<()>| {
                come(tasks, Group::Culprit, BESIDE + ELSEWHERE, ADDRESS, &often);
            };
            script.play(normal, surge, || ()).await;
            stage.record.take()
        };
        let seen = Seen {
            record: bench.run(load)?,
            script,
            peak: upstream.peak(),
            guard: guard.told(),
        };
        Ok(seen.shared())
    })
}

const SHARED_COLUMNS: &[Column] = &[
    Column::new("calm_percent", "calm ok %", 1),
    Column::new("peak", "peak", 0),
    Column::new("beside_percent", "beside ok %", 1),
    Column::new("elsewhere_percent", "elsew. ok %", 1),
    Column::new("culprit_percent", "culprit %", 1),
    Column::new("beside_p99_ms", "beside p99", 0),
    Column::new("elsewhere_p99_ms", "elsew. p99", 0),
    Column::new("ok_per_s", "all ok/s", 1),
    Column::new("attempts_per_s", "attempts/s", 0),
    Column::new("normal_again_s", "again in s", 0),
];

fn user(group: Group, who: u8, from: Ipv4Addr, guard: &Running, talk: Talk) -> Client {
    Client {
        group,
        who: u32::from(who),
        from,
        to: guard.address,
        talk,
        patience: PATIENCE,
        stay: WORK,
    }
}

/// Longer than usual: what is not counted at the beginning comes on top.
fn script_for(bench: &Bench, guard: &Guard) -> Script {
    let mut script = bench.script_for(guard);
    script.surge += SETTLING;
    script
}

fn hint(bench: &Bench, per_s: u32) -> String {
    if bench.quick {
        format!(r#","surge":{{"baseline_per_s":{per_s}}}"#)
    } else {
        String::new()
    }
}

/// What was seen in a run.
struct Seen {
    record: Record,
    script: Script,
    peak: usize,
    guard: Value,
}

impl Seen {
    /// The surge without its beginning.
    fn settled(&self) -> Range<Duration> {
        let surge = self.script.surge();
        surge.start + SETTLING..surge.end
    }

    fn seconds(&self) -> f64 {
        let span = self.settled();
        (span.end - span.start).as_secs_f64()
    }

    /// The numbers, the percentage of users with mixed fates, and how many are served a second.
    fn measured(&self, groups: &[Group], none_per_s: Option<f64>) -> (Measured, f64, f64) {
        let (record, span) = (&self.record, self.settled());
        let tally = record.tally(groups, &span);
        let fates = record.fates(groups, &span);
        let per_s = tally.served.len() as f64 / self.seconds();
        let millis = |part| Some(tally.quantile(part)?.as_secs_f64() * 1000.0);
        let values = vec![
            Some(self.calm(groups)),
            Some(self.peak as f64),
            Some(per_s),
            none_per_s.map(|none| ratio(per_s, none)),
            Some(tally.share() * 100.0),
            Some(fates.mixed * 100.0),
            Some(fates.always * 100.0),
            Some(fates.never * 100.0),
            millis(0.5),
            millis(0.99),
            Some(record.tries(&span) as f64 / self.seconds()),
            self.again(groups),
        ];
        (self.with(values, groups), fates.mixed * 100.0, per_s)
    }

    fn shared(&self) -> Measured {
        const INNOCENT: [Group; 2] = [Group::Normal, Group::Beside];
        const ALL: [Group; 3] = [Group::Normal, Group::Beside, Group::Culprit];
        let (record, span) = (&self.record, self.settled());
        let beside = record.tally(&[Group::Beside], &span);
        let elsewhere = record.tally(&[Group::Normal], &span);
        let millis = |took: Option<Duration>| Some(took?.as_secs_f64() * 1000.0);
        let values = vec![
            Some(self.calm(&INNOCENT)),
            Some(self.peak as f64),
            Some(beside.share() * 100.0),
            Some(elsewhere.share() * 100.0),
            Some(record.tally(&[Group::Culprit], &span).share() * 100.0),
            millis(beside.quantile(0.99)),
            millis(elsewhere.quantile(0.99)),
            Some(record.tally(&ALL, &span).served.len() as f64 / self.seconds()),
            Some(record.tries(&span) as f64 / self.seconds()),
            self.again(&INNOCENT),
        ];
        self.with(values, &INNOCENT)
    }

    fn calm(&self, groups: &[Group]) -> f64 {
        self.record.tally(groups, &self.script.calm()).share() * 100.0
    }

    fn again(&self, groups: &[Group]) -> Option<f64> {
        // The work itself is no delay.
        let again = self
            .record
            .normal_again(groups, &self.script.after(), WORK.end);
        again.map(f64::from)
    }

    fn with(&self, values: Vec<Option<f64>>, groups: &[Group]) -> Measured {
        Measured {
            values,
            wanted: Vec::new(),
            served_by_second: self.record.served_by_second(groups, &self.script.shown()),
            told: self.guard.clone(),
        }
    }
}
