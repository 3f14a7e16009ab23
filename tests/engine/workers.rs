//! Several workers that get in each other's way.

use proptest::prelude::*;
use tidegate::engine::{Decision, Limits, Order, Place, StreamId};

use crate::world::{Rule, Step, World, hold, inflight, some};

fn step(workers: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..workers).prop_map(Step::Arrive),
        3 => (0..workers, 0_usize..8).prop_map(|(worker, nth)| Step::Close(worker, nth)),
        3 => (0..workers).prop_map(Step::Tick),
    ]
}

/// A step, what other workers do while it is done, and the milliseconds until the next.
fn scene(workers: usize) -> impl Strategy<Value = (Step, Vec<Step>, u64)> {
    (
        step(workers),
        prop::collection::vec(step(workers), 0..4),
        0_u64..30,
    )
}

/// As [`scene`], with a step that is done several times, and pauses.
fn crowded_scene(workers: usize) -> impl Strategy<Value = (Step, usize, Vec<Step>, u64)> {
    (
        step(workers),
        1_usize..12,
        prop::collection::vec(step(workers), 0..3),
        prop_oneof![9 => 0_u64..30, 1 => 100_u64..400],
    )
}

fn any_hold() -> impl Strategy<Value = Option<tidegate::engine::Hold>> {
    prop_oneof![
        Just(None),
        Just(Some(hold(50, 3, Order::NewestFirst))),
        Just(Some(hold(50, 3, Order::OldestFirst))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_interleaving_opens_more_than_the_limit_and_every_slot_comes_back(
        workers in 2_u32..5,
        limit in 1_u32..6,
        hold in any_hold(),
        scenes in prop::collection::vec(scene(4), 1..120),
    ) {
        let world = World::new(workers, Rule { limits: inflight(limit), hold, shadow: false });
        for (step, meanwhile, gap) in scenes {
            world.meanwhile.borrow_mut().extend(meanwhile);
            world.run(step);
            world.meanwhile.borrow_mut().clear();
            world.pass(gap);
            prop_assert!(world.open() <= limit as usize, "{} open", world.open());
            let waiting = world.count(|place| *place == Place::Waiting);
            prop_assert!(waiting <= 2 * 3 * workers as usize);
        }
        for index in 0..workers as usize {
            while !world.workers[index].borrow().streams.is_empty() {
                world.close_newest(index);
            }
        }
        world.pass(1000);
        world.tick_all();
        // Idle slots of another worker are there at the latest when it has ticked.
        for _ in 0..2 {
            for index in 0..limit as usize {
                world.arrive(index % workers as usize);
            }
            world.beat();
        }
        prop_assert_eq!(world.open(), limit as usize, "all slots are free again");
    }

    #[test]
    fn no_second_has_more_arrivals_than_the_limit(
        workers in 1_u32..4,
        limit in 1_u32..8,
        scenes in prop::collection::vec(scene(3), 1..150),
    ) {
        let limits = Limits { arrivals_per_s: some(limit), ..Limits::default() };
        let world = World::new(workers, Rule { limits, hold: None, shadow: false });
        let mut admitted: Vec<(u64, u32)> = Vec::new();
        let mut before = 0;
        for (step, meanwhile, gap) in scenes {
            world.meanwhile.borrow_mut().extend(meanwhile);
            world.run(step);
            world.meanwhile.borrow_mut().clear();
            let all: u32 = world.workers.iter().map(|w| w.borrow().tally.admitted).sum();
            let now = world.now().as_millis();
            admitted.push((now, all - before));
            before = all;
            let second: u32 = admitted
                .iter()
                .filter(|(at, _)| at + 1000 > now)
                .map(|(_, n)| n)
                .sum();
            prop_assert!(second <= limit);
            world.pass(gap * 5);
        }
    }

    #[test]
    fn shadow_counts_exactly_what_enforce_does(
        limit in 1_u32..6,
        steps in prop::collection::vec((step(2), 0_u64..30), 1..100),
    ) {
        let make = |shadow| World::new(2, Rule { limits: inflight(limit), hold: None, shadow });
        let (enforce, shadow) = (make(false), make(true));
        let mut arrived = 0;
        for (step, gap) in steps {
            match step {
                Step::Arrive(worker) => {
                    arrived += 1;
                    prop_assert_eq!(enforce.arrive(worker), shadow.arrive(worker));
                }
                Step::Close(_, nth) if arrived > 0 => {
                    let id = StreamId(1 + nth as u32 % arrived);
                    enforce.close(id);
                    shadow.close(id);
                }
                Step::Close(..) | Step::Die(_) => {}
                Step::Tick(worker) => {
                    enforce.tick(worker);
                    shadow.tick(worker);
                }
            }
            enforce.pass(gap);
            shadow.pass(gap);
            prop_assert_eq!(enforce.open(), shadow.open());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_fleet_with_leases_opens_more_than_the_limit_and_every_slot_comes_back(
        workers in 1_u32..=64,
        limit in 1_u32..200,
        hold in any_hold(),
        scenes in prop::collection::vec(crowded_scene(64), 1..200),
        dies in prop::collection::vec(1_usize..64, 0..4),
    ) {
        let world = World::new(workers, Rule { limits: inflight(limit), hold, shadow: false });
        let deaths = scenes.len() / (dies.len() + 1) + 1;
        for (n, (step, times, meanwhile, gap)) in scenes.into_iter().enumerate() {
            for _ in 0..times {
                world.meanwhile.borrow_mut().extend(meanwhile.iter().copied());
                world.run(step);
                world.meanwhile.borrow_mut().clear();
                prop_assert!(world.open() <= limit as usize, "{} open", world.open());
            }
            // Never the first, which is to bury them.
            if workers > 1 && n % deaths == deaths - 1 && let Some(worker) = dies.get(n / deaths) {
                world.run(Step::Die(1 + worker % (workers as usize - 1)));
            }
            world.pass(gap);
            if gap > 100 {
                world.tick_all();
            }
        }
        for index in 0..workers as usize {
            while !world.workers[index].borrow().streams.is_empty() {
                world.close_newest(index);
            }
        }
        for _ in 0..45 {
            world.beat();
        }
        // One that had none of them takes them all, at the latest when the others have ticked.
        for _ in 0..2 {
            while world.arrive(0) == Decision::Admit {}
            world.close_held(0);
            world.beat();
        }
        prop_assert_eq!(world.open(), limit as usize, "all slots are free again");
    }

    #[test]
    fn no_second_of_a_fleet_with_leases_has_more_arrivals_than_the_limit(
        workers in 1_u32..=16,
        limit in 1_u32..400,
        scenes in prop::collection::vec(crowded_scene(16), 50..300),
        dies in prop::option::of((0_usize..50, 0_usize..16)),
    ) {
        let limits = Limits { arrivals_per_s: some(limit), ..Limits::default() };
        let world = World::new(workers, Rule { limits, hold: None, shadow: false });
        let mut admitted: Vec<(u64, u32)> = Vec::new();
        let mut before = 0;
        for (n, (step, times, meanwhile, gap)) in scenes.into_iter().enumerate() {
            for _ in 0..8 * times {
                world.meanwhile.borrow_mut().extend(meanwhile.iter().copied());
                world.run(step);
                world.meanwhile.borrow_mut().clear();
            }
            if let Some((at, worker)) = dies && at == n {
                world.run(Step::Die(worker));
            }
            let all: u32 = world.workers.iter().map(|w| w.borrow().tally.admitted).sum();
            let now = world.now().as_millis();
            admitted.push((now, all - before));
            before = all;
            let second: u32 = admitted
                .iter()
                .filter(|(at, _)| at + 1000 > now)
                .map(|(_, n)| n)
                .sum();
            prop_assert!(second <= limit, "{second} of {limit}");
            world.pass(gap / 4);
        }
    }
}
