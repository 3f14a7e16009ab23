//! Slots and tokens that a worker took in advance.

use tidegate::{
    engine::{Decision, Fault, Limits, PoolRecord, Reason, Row},
    store::SharedStore,
};

use crate::world::{KEY, Rule, Step, World, inflight, some};

fn enforce(limits: Limits) -> Rule {
    Rule {
        limits,
        hold: None,
        shadow: false,
    }
}

fn per_s(limit: u32) -> Limits {
    Limits {
        arrivals_per_s: some(limit),
        ..Limits::default()
    }
}

fn record(world: &World) -> PoolRecord {
    let found = world.store.clone().load(KEY).expect("works");
    PoolRecord::decode(&found.expect("is there").0).expect("a record")
}

fn row(world: &World, worker: u32) -> Option<Row> {
    let record = record(world);
    let rows = record.rows().iter();
    let mut own = rows.filter(|row| row.worker.0.get() == worker);
    own.next().cloned()
}

/// How often the record is read while something is done.
fn reads(world: &World, work: impl FnOnce()) -> u64 {
    let before = world.reads.get();
    work();
    world.reads.get() - before
}

/// One arrives and is admitted, and is done.
fn pass_through(world: &World, worker: usize) {
    assert_eq!(world.arrive(worker), Decision::Admit);
    world.close_newest(worker);
}

/// Lets a worker see so many arrivals that it takes four slots or more at once, and one beat pass.
fn warm_up(world: &World, worker: usize) {
    (0..400).for_each(|_| pass_through(world, worker));
    world.beat();
}

#[test]
fn a_calm_arrival_reads_nothing_that_is_shared() {
    let world = World::new(2, enforce(inflight(1000)));
    warm_up(&world, 0);
    for _ in 0..20 {
        world.beat();
        let asked = reads(&world, || {
            for _ in 0..3 {
                assert_eq!(world.arrive(0), Decision::Admit);
            }
            for _ in 0..50 {
                pass_through(&world, 0);
            }
            for _ in 0..3 {
                world.close_newest(0);
            }
        });
        assert_eq!(asked, 0);
    }
}

#[test]
fn a_batch_is_what_comes_in_50_ms_and_at_most_64() {
    for (a_beat, expected) in [(1, 0), (22, 10), (1000, 64)] {
        let world = World::new(1, enforce(inflight(100_000)));
        for _ in 0..60 {
            (0..a_beat).for_each(|_| pass_through(&world, 0));
            world.beat();
        }
        let idle = row(&world, 1).map_or(0, |row| row.leased);
        assert!((expected..=2 * expected).contains(&idle), "{idle}");
    }
}

#[test]
fn a_leased_slot_counts_for_the_others_and_an_open_one_is_shown() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    assert_eq!(world.arrive(0), Decision::Admit);
    world.beat();
    let totals = record(&world).totals();
    assert_eq!(totals.open, 1);
    assert!(totals.held > 1);
    let free = 100 - totals.held;
    let admitted = (0..100).filter(|_| world.arrive(1) == Decision::Admit);
    assert_eq!(admitted.count() as u64, free);
}

#[test]
fn a_starved_worker_gets_every_idle_slot_of_the_others_within_one_tick() {
    let world = World::new(3, enforce(inflight(100)));
    for worker in [0, 2] {
        warm_up(&world, worker);
    }
    for worker in [0, 2] {
        for _ in 0..20 {
            assert_eq!(world.arrive(worker), Decision::Admit);
        }
    }
    for worker in [0, 2] {
        for _ in 0..20 {
            world.close_newest(worker);
        }
    }
    while world.arrive(1) == Decision::Admit {}
    assert!(world.open() < 100, "the others have told of nothing yet");
    world.beat();
    while world.arrive(1) == Decision::Admit {}
    assert_eq!(world.open(), 100);
}

#[test]
fn idle_slots_are_given_back_within_50_ms_when_another_worker_starves() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    assert!(world.workers[0].borrow().gate.has_idle_slots());
    while world.arrive(1) == Decision::Admit {}
    assert!(world.open() < 100, "none is idle");
    world.pass(50);
    world.tick(0);
    while world.arrive(1) == Decision::Admit {}
    assert_eq!(world.open(), 100);
    assert!(!world.workers[0].borrow().gate.has_idle_slots());
}

#[test]
fn no_slot_is_idle_when_a_quarter_is_used() {
    let world = World::new(1, enforce(inflight(1000)));
    warm_up(&world, 0);
    let idle = |world: &World| row(world, 1).map_or(0, |row| row.leased - row.open);
    for (open, some) in [(240, true), (251, false)] {
        while world.open() < open {
            assert_eq!(world.arrive(0), Decision::Admit);
        }
        world.beat();
        assert_eq!(idle(&world) > 0, some, "{open} open");
    }
}

#[test]
fn near_the_limit_no_slot_is_idle_and_a_freed_one_is_told_within_a_fast_tick() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    warm_up(&world, 1);
    for n in 0..99 {
        assert_eq!(world.arrive(n % 2), Decision::Admit);
    }
    world.beat();
    let totals = record(&world).totals();
    assert_eq!((totals.open, totals.held), (99, 99));
    world.close_newest(0);
    assert!(world.workers[0].borrow().gate.needs_fast_tick());
    world.pass(4);
    world.tick(0);
    assert_eq!(world.arrive(1), Decision::Admit);
    assert_eq!(world.arrive(1), Decision::Admit);
    assert_ne!(world.arrive(1), Decision::Admit);
}

#[test]
fn in_a_surge_or_under_a_lowered_limit_every_arrival_asks() {
    for (surge, part) in [(true, 1.0), (false, 0.9)] {
        let world = World::new(1, enforce(inflight(1000)));
        warm_up(&world, 0);
        let regime = |surge, part| {
            let mut worker = world.workers[0].borrow_mut();
            worker.gate.set_regime(surge, part);
        };
        regime(surge, part);
        assert!(world.workers[0].borrow().gate.needs_fast_tick());
        assert_eq!(reads(&world, || pass_through(&world, 0)), 1);
        world.pass(4);
        world.tick(0);
        assert_eq!(row(&world, 1).map_or(0, |row| row.leased), 0);
        assert_eq!(reads(&world, || pass_through(&world, 0)), 1);
        regime(false, 1.0);
        world.beat();
        assert_eq!(reads(&world, || pass_through(&world, 0)), 0);
    }
}

#[test]
fn a_lease_is_not_used_for_another_limit() {
    let world = World::new(1, enforce(inflight(1000)));
    warm_up(&world, 0);
    world.rule.set(enforce(inflight(1)));
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_ne!(world.arrive(0), Decision::Admit);
}

#[test]
fn while_more_is_open_than_a_lowered_limit_nobody_takes_the_place_of_one_that_ends() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    warm_up(&world, 1);
    for _ in 0..10 {
        assert_eq!(world.arrive(0), Decision::Admit);
    }
    world.beat();
    world.rule.set(enforce(inflight(5)));
    // It lacks a slot, and the other worker has idle ones: it tells so, by the new limit.
    assert_ne!(world.arrive(0), Decision::Admit);
    assert!(row(&world, 1).is_some_and(|row| row.short));
    for open in (5..10).rev() {
        world.close_newest(0);
        assert_ne!(world.arrive(0), Decision::Admit, "{open} are open");
    }
    world.close_newest(0);
    world.pass(50);
    world.tick(1);
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_ne!(world.arrive(0), Decision::Admit);
    assert_eq!(world.open(), 5);
}

#[test]
fn where_connects_are_limited_every_arrival_asks() {
    let limits = Limits {
        connecting: some(50),
        ..inflight(1000)
    };
    let world = World::new(1, enforce(limits));
    warm_up(&world, 0);
    assert_eq!(reads(&world, || pass_through(&world, 0)), 1);
}

#[test]
fn the_idle_slots_of_a_worker_that_died_come_back_too() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    for _ in 0..30 {
        assert_eq!(world.arrive(0), Decision::Admit);
    }
    world.beat();
    world.run(Step::Die(0));
    for _ in 0..30 {
        world.beat();
    }
    assert_eq!(world.faults(Fault::WorkerReaped), 1);
    while world.arrive(1) == Decision::Admit {}
    assert_eq!(world.open(), 100);
}

#[test]
fn a_lease_that_the_record_does_not_know_is_gone() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    for _ in 0..10 {
        assert_eq!(world.arrive(0), Decision::Admit);
    }
    for _ in 0..10 {
        world.close_newest(0);
    }
    let mut store = world.store.clone();
    store.compare_and_set(KEY, b"foreign", None).expect("works");
    while world.arrive(1) == Decision::Admit {}
    assert_eq!(world.open(), 100);
    world.beat();
    assert_ne!(world.arrive(0), Decision::Admit);
    assert_eq!(world.open(), 100);
}

#[test]
fn a_worker_that_was_stuck_does_not_use_what_others_may_have_taken_back() {
    let world = World::new(2, enforce(inflight(100)));
    warm_up(&world, 0);
    assert_eq!(reads(&world, || pass_through(&world, 0)), 0);
    world.pass(1001);
    world.workers[0].borrow_mut().read = world.now();
    assert_eq!(reads(&world, || pass_through(&world, 0)), 1);
}

#[test]
fn what_was_leased_is_given_back_when_nothing_comes_any_more() {
    let world = World::new(1, enforce(inflight(1000)));
    warm_up(&world, 0);
    assert!(row(&world, 1).is_some_and(|row| row.leased > 0));
    for _ in 0..60 {
        world.beat();
    }
    assert!(record(&world).rows().is_empty());
}

/// Lets a worker see so many arrivals in five seconds that it takes several tokens at once.
fn warmed_up(limit: u32) -> World {
    let world = World::new(2, enforce(per_s(limit)));
    for _ in 0..500 {
        for _ in 0..10 {
            pass_through(&world, 0);
        }
        world.pass(10);
        world.tick_all();
    }
    world
}

#[test]
fn tokens_are_taken_for_50_ms_at_once() {
    let world = warmed_up(100_000);
    let asked = reads(&world, || {
        for _ in 0..10 {
            (0..5).for_each(|_| pass_through(&world, 0));
            world.pass(5);
        }
    });
    assert!((1..=2).contains(&asked), "{asked}");
}

#[test]
fn tokens_that_were_not_used_are_there_for_others_again() {
    let world = World::new(2, enforce(per_s(2000)));
    for _ in 0..500 {
        (0..10).for_each(|_| pass_through(&world, 0));
        world.pass(10);
        world.tick_all();
    }
    // Of a batch of 50 one is used, and the others are not any more 200 ms later.
    world.pass(2000);
    world.tick_all();
    pass_through(&world, 0);
    for _ in 0..3 {
        world.beat();
    }
    let admitted = (0..3000).filter(|_| world.arrive(1) == Decision::Admit);
    assert_eq!(admitted.count(), 1999);
}

#[test]
fn tokens_do_not_last_for_more_than_200_ms() {
    let world = warmed_up(100_000);
    pass_through(&world, 0);
    assert_eq!(reads(&world, || pass_through(&world, 0)), 0);
    world.pass(200);
    assert_eq!(reads(&world, || pass_through(&world, 0)), 1);
}

#[test]
fn tokens_of_a_worker_that_died_count_until_a_second_after_they_could_be_used() {
    let world = World::new(2, enforce(per_s(50)));
    for _ in 0..500 {
        let _ = world.arrive(0);
        world.close_newest(0);
        world.pass(10);
        world.tick_all();
    }
    world.pass(2000);
    world.tick_all();
    let arrived = row(&world, 1).expect("a row").arrived;
    assert!(arrived >= 200, "{arrived}");
    pass_through(&world, 0);
    let leased = reads(&world, || pass_through(&world, 0));
    assert_eq!(leased, 0);
    world.run(Step::Die(0));
    world.pass(1100);
    let admitted = (0..60).filter(|_| world.arrive(1) == Decision::Admit);
    assert!(admitted.count() < 50);
    world.pass(1260);
    let admitted = (0..60).filter(|_| world.arrive(1) == Decision::Admit);
    assert_eq!(admitted.count(), 50);
}

#[test]
fn who_found_no_token_does_not_ask_again_for_a_moment() {
    let world = World::new(1, enforce(per_s(1000)));
    while world.arrive(0) == Decision::Admit {}
    let refused = Decision::Reject(Reason::ArrivalLimit);
    let asked = reads(&world, || {
        for _ in 0..100 {
            assert_eq!(world.arrive(0), refused);
        }
    });
    assert_eq!(asked, 0);
    world.pass(20);
    assert_eq!(reads(&world, || assert_eq!(world.arrive(0), refused)), 1);
}
