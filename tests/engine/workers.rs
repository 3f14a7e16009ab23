//! Several workers that get in each other's way.

use proptest::prelude::*;
use tidegate::engine::{Limits, Order, Place, StreamId};

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
        for index in 0..limit as usize {
            world.arrive(index % workers as usize);
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
                Step::Close(..) => {}
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
