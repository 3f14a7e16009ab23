//! However it fails, the log stays readable.

use proptest::prelude::*;

use crate::{
    cases,
    days::busy,
    machine::Sort,
    module::Build,
    weather::{Import, Mishap, Status, Weather, any_weather},
    world::{World, connection, request},
};

/// A rule has a line a second at most, and a worker tells of the faults of each every ten seconds.
fn assert_lines_are_few(world: &World, before: usize, told: &str) {
    let envoy = world.envoy.borrow();
    let lines = envoy.log.len() - before;
    let rules = envoy
        .metrics
        .keys()
        .filter(|name| name.ends_with("tidegate_arrivals_total"));
    let seconds = envoy.travelled / 1_000_000_000 + 1;
    let most = rules.count() as u64 * seconds;
    assert!(
        lines as u64 <= most,
        "{told}: {lines} lines in {seconds} s: {:#?}",
        envoy.log
    );
}

fn minute(weather: &Weather) {
    let mut world = World::new(Build::Inspect, 2);
    for sort in [Sort::Http, Sort::Tcp] {
        world.configure(sort, &busy(Build::Inspect, sort, "db"));
    }
    let before = world.envoy.borrow().log.len();
    world.weather(weather);
    for number in 0..200 {
        let worker = &mut world.workers[number % 2];
        let id = worker.begin(request("a", "/"));
        worker.begin(connection("10.0.0.1", 5432));
        worker.end(id);
        world.advance(if number % 10 == 0 { 1_000 } else { 20 });
    }
    assert_lines_are_few(&world, before, &format!("{weather:?}"));
}

#[test]
fn a_host_that_fails_with_everything_is_not_complained_about_all_the_time() {
    for status in Status::all() {
        minute(&Weather::All(None, Mishap::Refused(status)));
        // What is told is told where it can be seen.
        for import in Import::ALL
            .into_iter()
            .filter(|import| *import != Import::Log)
        {
            if status == Status::CAS_MISMATCH || status.0 == 10 {
                minute(&Weather::All(Some(import), Mishap::Refused(status)));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn in_any_weather_the_lines_are_few(weather in any_weather()) {
        // A clock that jumps is one by which much time passes.
        prop_assume!(!matches!(
            weather,
            Weather::Some { .. } | Weather::All(None | Some(Import::GetCurrentTime), _)
        ));
        minute(&weather);
    }
}
