//! What a machine keeps does not depend on how much it has seen.

use crate::{
    days::{busy, startup},
    dice::Dice,
    envoy::Envoy,
    machine::{Machine, Sort},
    module::Build,
    seen, times,
    weather::Weather,
    world::{World, connection, request},
};

/// Streams, each of a caller who never came before; a few are open at once.
fn many(world: &mut World, numbers: core::ops::Range<u32>) {
    let mut open = std::collections::VecDeque::new();
    for number in numbers {
        let worker = &mut world.workers[0];
        let [_, b, c, d] = number.to_be_bytes();
        let id = if number % 2 == 0 {
            worker.begin(request(&format!("caller-{number}"), "/"))
        } else {
            let id = worker.begin(connection(&format!("10.{b}.{c}.{d}"), 5432));
            worker.data(0, id, &startup(&format!("user-{number}")), false);
            id
        };
        open.push_back(id);
        // More than the limit, so that some wait and some are refused.
        if open.len() > 6 {
            let first = open.pop_front().expect("one");
            worker.end(first);
        }
        if number % 4 == 0 {
            world.advance(1);
        }
    }
    world.close_all();
    world.advance(2_000);
}

#[test]
fn ten_times_as_many_streams_leave_no_more_memory() {
    for build in Build::ALL {
        let mut world = World::new(build, 1);
        for sort in [Sort::Http, Sort::Tcp] {
            world.configure(sort, &busy(build, sort, "db"));
        }
        many(&mut world, 0..4_000);
        let (few, keys) = (
            world.workers[0].machine.memory(),
            world.envoy.borrow().shared.len(),
        );
        many(&mut world, 4_000..40_000 * times());
        assert_eq!(world.workers[0].machine.memory(), few, "{build:?}");
        assert_eq!(world.envoy.borrow().shared.len(), keys, "{build:?}");
    }
    seen::tell("many streams");
}

#[test]
fn a_host_that_often_fails_leaves_no_more_memory() {
    for build in Build::ALL {
        let mut world = World::new(build, 1);
        for sort in [Sort::Http, Sort::Tcp] {
            world.configure(sort, &busy(build, sort, "db"));
        }
        let failing = Weather::Failing {
            dice: Dice::new(1),
            odds: 3,
        };
        world.weather(&failing);
        many(&mut world, 0..2_000);
        let few = world.workers[0].machine.memory();
        many(&mut world, 2_000..10_000 * times());
        assert_eq!(world.workers[0].machine.memory(), few, "{build:?}");
    }
    seen::tell("many streams that often fail");
}

#[test]
fn configurations_that_come_and_go_leave_nothing_behind() {
    // On a thread that has no streams, nothing ever ticks.
    for ticks in [true, false] {
        let envoy = Envoy::start();
        let mut machine = Machine::start(Build::Plain, &envoy);
        let mut update = |numbers: core::ops::Range<u32>| {
            for number in numbers {
                let root = number + 1;
                machine.state().contexts.insert(root, Default::default());
                machine.create(root, 0);
                let text = busy(Build::Plain, Sort::Http, &format!("rule-{number}"));
                assert!(machine.configure(root, text.as_bytes(), text.len() as u32));
                if ticks {
                    machine.tick(root);
                }
                if number > 0 {
                    machine.delete(number);
                    machine.state().contexts.remove(&number);
                }
            }
            machine.memory()
        };
        let few = update(0..200);
        let many = update(200..3_000);
        assert_eq!(many, few, "ticks: {ticks}");
    }
}
