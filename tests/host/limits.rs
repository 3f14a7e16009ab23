//! While the host answers as Envoy does, no more is open than the limit, in all workers together.

use proptest::prelude::*;

use crate::{
    cases,
    days::startup,
    machine::Sort,
    module::Build,
    seen,
    world::{World, connection, request},
};

const LIMIT: usize = 4;

/// What happens in a world.
#[derive(Clone, Debug)]
enum Event {
    Request(usize, u8),
    Connection(usize, u8),
    /// One of a worker's streams ends.
    End(usize, usize),
    /// The upstream of one answers.
    Answer(usize, usize),
    Wait(u64),
    /// The clock steps, by ms.
    Step(i64),
    /// The worker's machine is gone, with all that was in it, and another takes its place.
    Lose(usize),
    /// All workers have the other configuration, and the old one's listeners drain.
    Update,
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..4_usize;
    prop_oneof![
        8 => (worker.clone(), 0..6_u8).prop_map(|(worker, caller)| Event::Request(worker, caller)),
        8 => (worker.clone(), 0..6_u8)
            .prop_map(|(worker, caller)| Event::Connection(worker, caller)),
        10 => (worker.clone(), 0..9_usize).prop_map(|(worker, which)| Event::End(worker, which)),
        2 => (worker.clone(), 0..9_usize).prop_map(|(worker, which)| Event::Answer(worker, which)),
        10 => prop_oneof![0..5_u64, 5..120_u64, 120..3_000_u64].prop_map(Event::Wait),
        1 => prop_oneof![-10_000..10_000_i64, -1_000_000_000..1_000_000_000_i64]
            .prop_map(Event::Step),
        1 => worker.prop_map(Event::Lose),
        1 => Just(Event::Update),
    ]
}

/// Two configurations of the same limit, for requests and for connections.
fn configurations(build: Build) -> [[(Sort, String); 2]; 2] {
    let refusal = match build {
        Build::Plain => r#""reject": {"slow": "200ms"}"#,
        Build::Inspect => {
            r#""protocol": "postgres", "key": "postgres.user",
               "reject": {"tcp": "protocol", "cluster": "tidegate-refuse", "slow": "200ms"}"#
        }
    };
    // What is unusual begins early, so that there are surges.
    let common = format!(
        r#""name": "db", "limits": {{"inflight": {LIMIT}}}, "adaptive": true,
           "surge": {{"warm_up": "1s", "baseline_per_s": 1, "min_excess": 2}},
           "classes": [{{"name": "admin", "match": {{"source": ["10.9.0.0/16"]}},
                         "priority": 0, "reserved": 1}}]"#
    );
    let of = |hold: &str| {
        [
            (Sort::Http, r#""key": "header:x-caller""#),
            (Sort::Tcp, refusal),
        ]
        .map(|(sort, more)| {
            let rule = format!("{{{common}, {more}, {hold}}}");
            (sort, format!(r#"{{"mode": "enforce", "rules": [{rule}]}}"#))
        })
    };
    [
        of(r#""hold": {"max_wait": "100ms", "max_waiting": 3}"#),
        of(r#""hold": {"max_wait": "1s", "order": "oldest_first"}"#),
    ]
}

fn play(build: Build, workers: usize, events: Vec<Event>) {
    let configurations = configurations(build);
    let mut world = World::new(build, workers);
    let mut current = 0;
    for (sort, text) in &configurations[current] {
        world.configure(*sort, text);
    }
    for event in events {
        match event.clone() {
            Event::Request(worker, caller) => {
                let worker = &mut world.workers[worker % workers];
                worker.begin(request(&format!("c{caller}"), "/"));
            }
            Event::Connection(worker, caller) => {
                let worker = &mut world.workers[worker % workers];
                let source = format!("10.{}.0.1", 5 + caller);
                let id = worker.begin(connection(&source, 5432));
                worker.data(0, id, &startup(&format!("u{caller}")), false);
            }
            Event::End(worker, which) => {
                let worker = &mut world.workers[worker % workers];
                if let Some(id) = worker.streams.get(which).copied() {
                    worker.end(id);
                }
            }
            Event::Answer(worker, which) => {
                let worker = &mut world.workers[worker % workers];
                if let Some(id) = worker.streams.get(which).copied() {
                    worker.data(1, id, b"R\0\0\0\x08\0\0\0\0", false);
                }
            }
            Event::Wait(ms) => {
                // Nobody stands still for so long that the others bury him.
                for _ in 0..ms / 10 {
                    world.advance(10);
                    assert_limit(&world, &event);
                }
                world.advance(ms % 10);
            }
            Event::Step(ms) => world.step(ms),
            Event::Lose(worker) => {
                let known: Vec<_> = configurations[current]
                    .iter()
                    .map(|(sort, text)| (*sort, text.as_str()))
                    .collect();
                world.lose(worker % workers, &known);
            }
            Event::Update => {
                current = 1 - current;
                for (sort, text) in &configurations[current] {
                    world.configure(*sort, text);
                    for worker in &mut world.workers {
                        worker.drain(*sort);
                    }
                }
            }
        }
        assert_limit(&world, &event);
    }
    // Who waits is answered, a hot caller by a clock that was set back after 90 s; what ended is free.
    let waits = |world: &World| {
        let contexts = world
            .workers
            .iter()
            .flat_map(|worker| worker.machine.see().contexts.values());
        contexts.filter(|context| context.paused).count()
    };
    for _ in 0..100 {
        if waits(&world) > 0 {
            world.advance(1_000);
        }
    }
    assert_eq!(waits(&world), 0, "somebody waits for ever");
    world.close_all();
    // A machine that has seen nothing does not tick, and buries nobody.
    for worker in &mut world.workers {
        let id = worker.begin(request("last", "/"));
        worker.end(id);
    }
    world.advance(4_000);
    let inflight = world.envoy.borrow().metric("db", "tidegate_inflight");
    assert_eq!(inflight, 0, "all of it is free");
}

fn assert_limit(world: &World, event: &Event) {
    assert!(
        world.open() <= LIMIT,
        "{} are open after {event:?}",
        world.open()
    );
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn no_more_is_open_than_the_limit_in_all_workers_together(
        inspect in any::<bool>(),
        workers in 1..=4_usize,
        events in prop::collection::vec(event(), 1..150),
    ) {
        let build = if inspect { Build::Inspect } else { Build::Plain };
        play(build, workers, events);
    }
}

#[test]
fn the_limit_is_used_up() {
    for build in Build::ALL {
        let mut world = World::new(build, 2);
        for (sort, text) in &configurations(build)[0] {
            world.configure(*sort, text);
        }
        for _ in 0..4 {
            world.workers[0].begin(request("a", "/"));
            world.workers[1].begin(connection("10.9.0.1", 5432));
        }
        assert_eq!(world.open(), LIMIT, "{build:?}");
    }
    seen::tell("the limit is used up");
}

#[test]
fn a_worker_that_finds_garbage_for_its_number_takes_nobody_elses() {
    for build in Build::ALL {
        let mut world = World::new(build, 3);
        for (sort, text) in &configurations(build)[0] {
            world.configure(*sort, text);
        }
        for _ in 0..4 {
            world.workers[0].begin(request("a", "/"));
            world.workers[1].begin(connection("10.9.0.1", 5432));
        }
        // A worker draws its number when somebody comes to it.
        let mut envoy = world.envoy.borrow_mut();
        let keys: Vec<_> = envoy.shared.keys().cloned().collect();
        let key = keys.into_iter().find(|key| key.ends_with(b"/workers"));
        envoy.set_shared(key.expect("the last number"), b"garbage".into(), 0);
        drop(envoy);
        for _ in 0..20 {
            world.workers[2].begin(connection("10.9.0.1", 5432));
            world.advance(200);
            assert_eq!(world.open(), LIMIT, "{build:?}");
        }
    }
    seen::tell("garbage for a worker's number");
}
