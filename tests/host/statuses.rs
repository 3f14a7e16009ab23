//! Every function of the host's, with every status, and back to normal.

use std::collections::BTreeSet;

use crate::{
    days::{LIMIT, busy, day},
    machine::Sort,
    module::Build,
    seen::{self, Seen},
    weather::{Import, Instead, Mishap, OVERSIZED, Status, Weather},
    world::{World, connection, request},
};

/// What a module imports.
fn imports(build: Build) -> Vec<Import> {
    let names: BTreeSet<&str> = build
        .module()
        .imports()
        .map(|import| import.name())
        .collect();
    let known: Vec<Import> = Import::ALL
        .into_iter()
        .filter(|import| names.contains(import.name()))
        .collect();
    assert_eq!(
        known.len(),
        names.len(),
        "the host has not all of {names:?}"
    );
    known
}

/// A day on which something goes wrong, and what was seen then.
fn bad_day(build: Build, weather: &Weather) -> (World, Seen) {
    // Shown when it fails.
    eprintln!("{build:?}: {weather:?}");
    let mut world = World::new(build, 1);
    for sort in [Sort::Http, Sort::Tcp] {
        world.configure(sort, &busy(build, sort, "db"));
    }
    let before = world.workers[0].machine.see().seen.clone();
    world.weather(weather);
    // One more configuration, of a rule that is new. It may be refused, and then the old one stays.
    world.workers[0].configure(Sort::Http, &busy(build, Sort::Http, "late"));
    day(&mut world, 0);
    world.weather(&Weather::Fine);
    let mut seen = world.workers[0].machine.see().seen.clone();
    let all = seen.answers.iter_mut().flatten();
    for (sum, old) in all.zip(before.answers.iter().flatten()) {
        *sum -= old;
    }
    (world, seen)
}

/// Everything is as it was before anything went wrong: the limit is held, and all of it is there.
fn assert_is_well(mut world: World, told: &str) {
    let build = world.build;
    world.close_all();
    for sort in [Sort::Http, Sort::Tcp] {
        world.configure(sort, &busy(build, sort, "db"));
    }
    // The dead are buried, and what a mean day taught is forgotten.
    world.advance(10_000);
    for round in 0..2 {
        let worker = &mut world.workers[0];
        for caller in ["a", "b", "c", "d"] {
            worker.begin(request(caller, "/"));
            worker.begin(connection(&format!("10.1.{round}.{}", caller.len()), 5432));
        }
        assert_eq!(world.open(), LIMIT, "{told}, round {round}");
        world.advance(200);
        assert_eq!(world.open(), LIMIT, "{told}, round {round}, after 200 ms");
        let inflight = world.envoy.borrow().metric("db", "tidegate_inflight");
        assert_eq!(inflight, LIMIT as u64, "{told}, round {round}");
        world.close_all();
        world.advance(300);
        let inflight = world.envoy.borrow().metric("db", "tidegate_inflight");
        assert_eq!(inflight, 0, "{told}, round {round}");
    }
}

#[test]
fn every_status_of_every_import_is_survived_and_forgotten() {
    for build in Build::ALL {
        for import in imports(build) {
            for status in Status::all() {
                let weather = Weather::All(Some(import), Mishap::Refused(status));
                let told = format!("{build:?}: {import:?} answers {}", name(status));
                let (world, seen) = bad_day(build, &weather);
                let times = seen.answers[import as usize][status.0 as usize];
                assert!(times > 0, "{told}: nobody asked");
                assert_is_well(world, &told);
            }
        }
    }
    seen::tell("every status");
}

fn name(status: Status) -> &'static str {
    Status::NAMES[status.0 as usize]
}

#[test]
fn what_is_done_and_told_as_failed_is_survived_and_forgotten() {
    for build in Build::ALL {
        for import in imports(build) {
            for status in [1, 8, 10, u32::MAX].map(Status) {
                let weather = Weather::All(Some(import), Mishap::DoneBut(status));
                let (world, _) = bad_day(build, &weather);
                assert_is_well(world, &format!("{build:?}: {import:?}, {status:?}"));
            }
        }
    }
    seen::tell("done, and told as failed");
}

#[test]
fn whatever_is_handed_over_is_survived() {
    let all = [
        Instead::Nothing,
        Instead::Noise(1),
        Instead::Noise(8),
        Instead::Noise(300),
        Instead::Noise(OVERSIZED),
        Instead::TooMuch,
        Instead::NullOf(1),
        Instead::NullOf(u32::MAX),
        Instead::LengthOfNone,
        Instead::OneBitOff,
        Instead::Half,
    ];
    for build in Build::ALL {
        for import in imports(build) {
            for instead in all {
                let weather = Weather::All(Some(import), Mishap::Garbled(instead));
                let (_, seen) = bad_day(build, &weather);
                assert!(seen.garbled > 0, "{build:?}: {import:?} {instead:?}");
            }
        }
    }
    seen::tell("whatever is handed over");
}

#[test]
fn a_host_that_fails_with_everything_lets_all_arrivals_pass() {
    for build in Build::ALL {
        for status in Status::all().filter(|status| *status != Status::OK) {
            let told = format!("{build:?}: all answer {}", name(status));
            let mut world = World::new(build, 1);
            world.configure(Sort::Http, &busy(build, Sort::Http, "db"));
            world.configure(Sort::Tcp, &busy(build, Sort::Tcp, "db"));
            world.weather(&Weather::All(None, Mishap::Refused(status)));
            for number in 0..20 {
                let worker = &mut world.workers[0];
                worker.begin(request("a", "/"));
                worker.begin(connection("10.0.0.1", 5432));
                assert_eq!(world.open(), 2 * number + 2, "{told}");
                world.advance(30);
            }
            world.weather(&Weather::Fine);
            assert_is_well(world, &told);
        }
    }
}

#[test]
fn without_shared_data_all_arrivals_pass_and_it_is_told() {
    let refused = Status::all().filter(|&status| {
        // Those two mean something: there is nothing yet, and somebody was faster.
        ![Status::OK, Status::NOT_FOUND, Status::CAS_MISMATCH].contains(&status)
    });
    for status in refused {
        for import in [Import::GetSharedData, Import::SetSharedData] {
            // Where it can still be read, each worker goes on to hold its own to the limit.
            let all = import == Import::GetSharedData;
            let told = format!("{import:?} answers {}", name(status));
            let mut world = World::new(Build::Plain, 1);
            world.configure(Sort::Http, &busy(Build::Plain, Sort::Http, "db"));
            // It is a worker already.
            let first = world.workers[0].begin(request("a", "/"));
            world.workers[0].end(first);
            world.advance(1_000);
            world.weather(&Weather::All(Some(import), Mishap::Refused(status)));
            for number in 0..5 * LIMIT {
                world.workers[0].begin(request("a", "/"));
                let open = if all {
                    number + 1
                } else {
                    LIMIT.min(number + 1)
                };
                assert_eq!(world.open(), open, "{told}");
            }
            world.advance(1_000);
            let envoy = world.envoy.borrow();
            let failed = envoy.metric("db", "kind=.=store_failed;.;tidegate_faults_total");
            assert!(failed > 0, "{told}: {:?}", envoy.metrics);
            let rejected = envoy.sum("db", "tidegate_rejected_total");
            assert_eq!(rejected == 0, all, "{told}");
            let lines = envoy.log.iter();
            let faults = lines.filter(|line| line.contains(r#""event":"fault""#));
            assert_eq!(faults.count(), 1, "{told}: {:?}", envoy.log);
        }
    }
}

#[test]
fn when_somebody_is_always_faster_who_may_wait_does_and_it_is_told() {
    let mut world = World::new(Build::Plain, 1);
    world.configure(Sort::Http, &busy(Build::Plain, Sort::Http, "db"));
    let first = world.workers[0].begin(request("a", "/"));
    world.workers[0].end(first);
    world.advance(1_000);
    let contended = Mishap::Refused(Status::CAS_MISMATCH);
    world.weather(&Weather::All(Some(Import::SetSharedData), contended));
    for _ in 0..LIMIT {
        world.workers[0].begin(request("a", "/"));
    }
    assert_eq!(world.open(), 0, "they wait");
    world.weather(&Weather::Fine);
    world.advance(50);
    assert_eq!(world.open(), LIMIT);
    // It is told with the next lap.
    world.advance(200);
    let envoy = world.envoy.borrow();
    let kind = "kind=.=store_contended;.;tidegate_faults_total";
    assert!(envoy.metric("db", kind) > 0, "{:?}", envoy.metrics);
}
