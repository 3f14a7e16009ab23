//! What one gate does, step by step.

use tidegate::{
    engine::{Decision, Fault, Limits, Order, Place, PoolRecord, Reason, Timestamp},
    store::SharedStore,
};

use crate::world::{KEY, Rule, World, hold, inflight, some};

fn enforce(limits: Limits) -> Rule {
    Rule {
        limits,
        hold: None,
        shadow: false,
    }
}

fn holding(order: Order) -> Rule {
    Rule {
        limits: inflight(1),
        hold: Some(hold(100, 2, order)),
        shadow: false,
    }
}

fn record(world: &World) -> PoolRecord {
    let (bytes, _) = world
        .store
        .clone()
        .load(KEY)
        .expect("works")
        .expect("is there");
    PoolRecord::decode(&bytes).expect("a record")
}

#[test]
fn who_waits_when_the_limit_is_changed_waits_by_the_new_one() {
    let hold = Some(hold(10_000, 8, Order::OldestFirst));
    let world = World::new(
        1,
        Rule {
            limits: inflight(3),
            hold,
            shadow: false,
        },
    );
    let open: Vec<_> = (0..3)
        .map(|_| world.next())
        .map(|id| (id, world.arrive(0)))
        .collect();
    for _ in 0..4 {
        assert_eq!(world.arrive(0), Decision::Hold);
    }
    let change = |limit| {
        let mut worker = world.workers[0].borrow_mut();
        worker.gate.set_limit(some(limit));
    };
    let open_after_a_beat = || {
        world.pass(100);
        world.tick(0);
        world.open()
    };
    change(1);
    for ((stream, decision), left) in open.into_iter().zip([2, 1, 1]) {
        assert_eq!(decision, Decision::Admit);
        world.close(stream);
        assert_eq!(open_after_a_beat(), left);
    }
    change(2);
    assert_eq!(open_after_a_beat(), 2);
}

#[test]
fn a_rule_without_limits_admits_and_counts() {
    let world = World::new(1, enforce(Limits::default()));
    for _ in 0..500 {
        assert_eq!(world.arrive(0), Decision::Admit);
    }
    world.tick(0);
    assert_eq!(record(&world).totals().open, 500);
    assert_eq!(world.workers[0].borrow().gate.seen().open, 500);
}

#[test]
fn the_limit_counts_the_streams_of_all_workers() {
    let world = World::new(3, enforce(inflight(2)));
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(world.arrive(1), Decision::Admit);
    let refused = Decision::Reject(Reason::InflightLimit);
    assert_eq!(world.arrive(2), refused);
    assert_eq!(world.arrive(0), refused);
}

#[test]
fn a_slot_is_free_with_the_call_after_the_close_and_not_before() {
    let world = World::new(2, enforce(inflight(1)));
    assert_eq!(world.arrive(0), Decision::Admit);
    world.close_newest(0);
    // The host has not closed the upstream's side yet.
    assert_ne!(world.arrive(1), Decision::Admit);
    world.pass(2);
    world.tick(0);
    assert_eq!(world.arrive(1), Decision::Admit);
}

#[test]
fn a_worker_may_use_its_own_freed_slot_at_once() {
    let world = World::new(1, enforce(inflight(1)));
    for _ in 0..10 {
        assert_eq!(world.arrive(0), Decision::Admit);
        world.close_newest(0);
    }
}

#[test]
fn arrivals_are_limited_in_any_trailing_second() {
    let world = World::new(
        2,
        enforce(Limits {
            arrivals_per_s: some(3),
            ..Limits::default()
        }),
    );
    for n in 0..3 {
        assert_eq!(world.arrive(n % 2), Decision::Admit);
        world.pass(10);
    }
    let refused = Decision::Reject(Reason::ArrivalLimit);
    assert_eq!(world.arrive(0), refused);
    world.pass(969);
    assert_eq!(world.arrive(1), refused, "0.999 s after the first");
    world.pass(81);
    assert_eq!(world.arrive(1), Decision::Admit);
}

#[test]
fn what_was_refused_uses_up_no_arrivals() {
    let world = World::new(
        1,
        enforce(Limits {
            inflight: some(1),
            arrivals_per_s: some(2),
            ..Limits::default()
        }),
    );
    assert_eq!(world.arrive(0), Decision::Admit);
    for _ in 0..10 {
        assert_eq!(world.arrive(0), Decision::Reject(Reason::InflightLimit));
    }
    world.close_newest(0);
    assert_eq!(world.arrive(0), Decision::Admit);
}

#[test]
fn one_that_was_answered_makes_room_for_one_that_connects() {
    let world = World::new(
        1,
        enforce(Limits {
            connecting: some(1),
            ..Limits::default()
        }),
    );
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(world.arrive(0), Decision::Reject(Reason::ConnectingLimit));
    {
        let mut worker = world.workers[0].borrow_mut();
        let mut place = worker.streams[0].1;
        assert!(matches!(
            place,
            Place::Open {
                connecting: true,
                ..
            }
        ));
        worker.gate.on_answered(&mut place);
        worker.gate.on_answered(&mut place);
        worker.streams[0].1 = place;
    }
    assert_eq!(world.arrive(0), Decision::Admit);
    world.close_newest(0);
    assert_eq!(
        world.arrive(0),
        Decision::Admit,
        "one that connected and left"
    );
}

#[test]
fn who_waits_gets_the_freed_slot_newest_first() {
    let world = World::new(1, holding(Order::NewestFirst));
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(world.arrive(0), Decision::Hold);
    world.pass(1);
    assert_eq!(world.arrive(0), Decision::Hold);
    let first = world.workers[0].borrow_mut().streams.remove(0);
    world.workers[0]
        .borrow_mut()
        .gate
        .on_close(first.0, first.1);
    world.pass(4);
    let served = world.tick(0);
    let newest = world.workers[0].borrow().streams[1].0;
    assert_eq!(served.len(), 1);
    assert_eq!(
        (served[0].id, served[0].decision),
        (newest, Decision::Admit)
    );
    assert_eq!(served[0].waited.as_millis(), 4);
}

#[test]
fn an_arrival_does_not_overtake_when_the_oldest_is_first() {
    let world = World::new(1, holding(Order::OldestFirst));
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(world.arrive(0), Decision::Hold);
    let first = world.workers[0].borrow_mut().streams.remove(0);
    world.workers[0]
        .borrow_mut()
        .gate
        .on_close(first.0, first.1);
    assert_eq!(world.arrive(0), Decision::Hold);
    assert_eq!(world.tick(0)[0].decision, Decision::Admit);
}

#[test]
fn who_waited_in_vain_is_refused_in_time() {
    let world = World::new(1, holding(Order::NewestFirst));
    world.arrive(0);
    assert_eq!(world.arrive(0), Decision::Hold);
    world.pass(99);
    assert!(world.tick(0).is_empty());
    world.pass(1);
    let out = world.tick(0);
    assert_eq!(out[0].decision, Decision::Reject(Reason::HoldTimeout));
    assert_eq!(world.rejected(Reason::HoldTimeout), 1);
    assert!(world.tick(0).is_empty(), "told once");
}

#[test]
fn a_full_queue_gives_the_oldest_ones_place_to_the_newest() {
    let world = World::new(1, holding(Order::NewestFirst));
    world.arrive(0);
    for _ in 0..3 {
        assert_eq!(world.arrive(0), Decision::Hold);
        world.pass(1);
    }
    let oldest = world.workers[0].borrow().streams[1].0;
    let out = world.tick(0);
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0].id, out[0].decision),
        (oldest, Decision::Reject(Reason::HoldFull))
    );
}

#[test]
fn a_full_queue_refuses_the_newest_when_the_oldest_is_first() {
    let world = World::new(1, holding(Order::OldestFirst));
    world.arrive(0);
    world.arrive(0);
    world.arrive(0);
    assert_eq!(world.arrive(0), Decision::Reject(Reason::HoldFull));
}

#[test]
fn one_that_leaves_while_it_waits_is_never_named_again() {
    let world = World::new(1, holding(Order::NewestFirst));
    world.arrive(0);
    for _ in 0..3 {
        world.arrive(0);
    }
    for _ in 0..4 {
        world.close_newest(0);
    }
    world.pass(1000);
    assert!(world.tick(0).is_empty());
    assert_eq!(world.arrive(0), Decision::Admit);
}

#[test]
fn shadow_lets_everyone_pass_and_counts_what_enforce_would_have_done() {
    let rule = Rule {
        shadow: true,
        ..enforce(inflight(2))
    };
    let world = World::new(2, rule);
    for index in [0, 1, 0, 1, 0] {
        world.arrive(index);
    }
    let tally: u32 = world
        .workers
        .iter()
        .map(|w| w.borrow().tally.shadow_rejected[Reason::InflightLimit.index()])
        .sum();
    let admitted: u32 = world
        .workers
        .iter()
        .map(|w| w.borrow().tally.admitted)
        .sum();
    assert_eq!((tally, admitted), (3, 5));
    assert_eq!(world.rejected(Reason::InflightLimit), 0);
    world.tick_all();
    assert_eq!(record(&world).totals().open, 2);
    assert_eq!(record(&world).totals().ghosts, 3);
}

#[test]
fn shadow_waits_on_paper_and_is_served_when_a_slot_is_free() {
    let rule = Rule {
        shadow: true,
        ..holding(Order::NewestFirst)
    };
    let world = World::new(1, rule);
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(world.arrive(0), Decision::Hold);
    assert_eq!(world.count(|place| *place == Place::Ghost), 1);
    let first = world.workers[0].borrow_mut().streams.remove(0);
    world.workers[0]
        .borrow_mut()
        .gate
        .on_close(first.0, first.1);
    let out = world.tick(0);
    assert!(out[0].shadow && out[0].decision == Decision::Admit);
    assert_eq!(world.open(), 1);
    world.pass(100);
    world.tick(0);
    assert_eq!(record(&world).totals().ghosts, 0);
    let tally = world.workers[0].borrow().tally;
    assert_eq!((tally.held, tally.admitted), (0, 2));
}

#[test]
fn who_leaves_while_it_waits_on_paper_is_not_served_on_paper() {
    let rule = Rule {
        shadow: true,
        ..holding(Order::NewestFirst)
    };
    let world = World::new(1, rule);
    world.arrive(0);
    world.arrive(0);
    world.close_newest(0);
    world.close_newest(0);
    assert!(world.tick(0).is_empty());
    world.pass(1000);
    assert!(world.tick(0).is_empty());
    let tally = world.workers[0].borrow().tally;
    assert_eq!(tally.shadow_rejected, [0; Reason::ALL.len()]);
}

/// How many of 400 requests a second are refused when ten of 50 ms each are let through at a time, in
/// ten seconds.
fn refused_of_an_overload(shadow: bool) -> u32 {
    let rule = Rule {
        limits: inflight(10),
        hold: Some(hold(100, 100, Order::NewestFirst)),
        shadow,
    };
    let world = World::new(1, rule);
    let mut ends = Vec::new();
    for ms in 0_u32..10_000 {
        ends.retain(|(at, id)| {
            if *at <= ms {
                world.close(*id);
            }
            *at > ms
        });
        if ms % 4 == 0 {
            for outcome in world.tick(0) {
                if outcome.decision == Decision::Admit && !outcome.shadow {
                    ends.push((ms + 50, outcome.id));
                }
            }
        }
        if ms % 5 < 2 {
            let id = world.next();
            if world.arrive(0) == Decision::Admit || shadow {
                ends.push((ms + 50, id));
            }
        }
        world.pass(1);
    }
    let tally = world.workers[0].borrow().tally;
    let counted = if shadow {
        tally.shadow_rejected
    } else {
        tally.rejected
    };
    counted.iter().sum()
}

#[test]
fn shadow_refuses_as_many_on_paper_when_all_are_done_before_their_wait_would_end() {
    let [enforce, shadow] = [false, true].map(|shadow| f64::from(refused_of_an_overload(shadow)));
    assert!(enforce > 1500.0, "{enforce}");
    assert!(
        (shadow / enforce - 1.0).abs() < 0.05,
        "{shadow} of {enforce}"
    );
}

#[test]
fn where_no_slot_is_limited_none_is_taken_on_paper() {
    let limits = Limits {
        arrivals_per_s: some(1),
        ..Limits::default()
    };
    let rule = Rule {
        limits,
        hold: Some(hold(5_000, 2, Order::NewestFirst)),
        shadow: true,
    };
    let world = World::new(1, rule);
    world.arrive(0);
    assert_eq!(world.arrive(0), Decision::Hold);
    // Both are done, the second one while it waits on paper.
    world.pass(500);
    world.close_newest(0);
    world.close_newest(0);
    assert!(world.workers[0].borrow().gate.needs_fast_tick());
    for _ in 0..200 {
        world.pass(10);
        world.tick(0);
        assert_eq!(record(&world).totals().open, 0);
    }
    assert!(!world.workers[0].borrow().gate.needs_fast_tick());
}

#[test]
fn on_paper_a_slot_is_taken_for_as_long_as_it_would_have_been() {
    let rule = Rule {
        shadow: true,
        ..holding(Order::NewestFirst)
    };
    let world = World::new(1, rule);
    world.arrive(0);
    world.arrive(0);
    world.pass(20);
    // The one that waits is done first, after 20 ms.
    world.close_newest(0);
    world.pass(10);
    world.close_newest(0);
    assert!(world.tick(0).is_empty(), "nobody is there to be told");
    let open = || record(&world).totals().open;
    assert_eq!(open(), 1);
    world.pass(19);
    assert_eq!(world.arrive(0), Decision::Hold);
    world.pass(1);
    world.tick(0);
    assert_eq!(world.open(), 1, "the next one has it");
    world.pass(50);
    world.tick(0);
    // It had to wait for a millisecond, so it is there for one more.
    world.close_newest(0);
    world.tick(0);
    assert_eq!(open(), 1);
    world.pass(1);
    world.tick(0);
    world.pass(100);
    world.tick(0);
    assert_eq!(open(), 0);
    assert_eq!(record(&world).totals().ghosts, 0);
}

#[test]
fn what_shadow_let_pass_at_one_worker_counts_for_enforce_at_another() {
    let shadow = Rule {
        shadow: true,
        ..enforce(inflight(1))
    };
    let world = World::new(2, shadow);
    world.arrive(0);
    world.arrive(0);
    world.tick(0);
    world.rule.set(enforce(inflight(2)));
    assert_ne!(world.arrive(1), Decision::Admit);
}

#[test]
fn what_shadow_let_pass_counts_when_enforce_takes_over() {
    let shadow = Rule {
        shadow: true,
        ..enforce(inflight(1))
    };
    let world = World::new(1, shadow);
    world.arrive(0);
    world.arrive(0);
    world.close_newest(0);
    world.rule.set(enforce(inflight(2)));
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_ne!(world.arrive(0), Decision::Admit);
}

#[test]
fn a_store_that_fails_lets_everyone_pass_and_says_so() {
    let world = World::new(1, enforce(inflight(1)));
    world.broken.set(true);
    for _ in 0..3 {
        assert_eq!(world.arrive(0), Decision::Admit);
    }
    assert_eq!(world.faults(Fault::StoreFailed), 3);
    // What passed is known, and holds as soon as the store works again.
    world.broken.set(false);
    assert_ne!(world.arrive(0), Decision::Admit);
}

#[test]
fn a_record_that_others_always_change_makes_an_arrival_wait_and_nobody_else() {
    let world = World::new(1, holding(Order::NewestFirst));
    world.contended.set(true);
    assert_eq!(world.arrive(0), Decision::Hold);
    world.rule.set(enforce(inflight(1)));
    assert_eq!(world.arrive(0), Decision::Admit, "it can't wait");
    assert_eq!(world.faults(Fault::StoreContended), 2);
    world.contended.set(false);
    world.close_newest(0);
    assert_eq!(world.tick(0)[0].decision, Decision::Admit);
}

#[test]
fn a_freed_slot_is_told_within_a_fast_tick_when_slots_are_scarce() {
    let world = World::new(2, enforce(inflight(1)));
    world.tick_all();
    world.arrive(0);
    for _ in 0..10 {
        world.pass(100);
        world.tick_all();
    }
    world.close_newest(0);
    assert!(world.workers[0].borrow().gate.needs_fast_tick());
    world.pass(4);
    world.tick(0);
    assert!(!world.workers[0].borrow().gate.needs_fast_tick());
    assert_eq!(world.arrive(1), Decision::Admit);
}

#[test]
fn a_slot_is_given_back_at_once_where_the_upstream_is_known_to_be_done() {
    let world = World::new(2, enforce(inflight(1)));
    world.arrive(0);
    world.close_newest(0);
    world.give_back(0);
    assert_eq!(world.arrive(1), Decision::Admit);
}

#[test]
fn a_tick_is_fast_only_while_somebody_needs_it() {
    let fast = |world: &World| world.workers[0].borrow().gate.needs_fast_tick();
    let world = World::new(1, holding(Order::NewestFirst));
    world.arrive(0);
    assert!(!fast(&world), "nobody waits");
    world.arrive(0);
    assert!(fast(&world), "one is held");
    let connecting = Limits {
        connecting: some(1),
        ..Limits::default()
    };
    let world = World::new(1, enforce(connecting));
    world.arrive(0);
    assert!(fast(&world), "one connects");
    world.close_newest(0);
    let world = World::new(1, enforce(inflight(100)));
    world.arrive(0);
    world.close_newest(0);
    assert!(!fast(&world), "there are slots enough");
}

#[test]
fn what_others_have_is_known_within_a_beat() {
    let world = World::new(2, enforce(inflight(9)));
    world.arrive(0);
    world.tick_all();
    world.arrive(1);
    for _ in 0..2 {
        world.pass(100);
        world.tick_all();
    }
    for worker in &world.workers {
        assert_eq!(worker.borrow().gate.seen().open, 2);
    }
}

#[test]
fn a_foreign_record_is_replaced_even_when_nothing_is_to_be_told() {
    let world = World::new(1, enforce(inflight(2)));
    let garbage = world
        .store
        .clone()
        .compare_and_set(KEY, b"something else", None);
    garbage.expect("works");
    world.tick(0);
    assert_eq!(record(&world), PoolRecord::default());
}

#[test]
fn a_foreign_record_is_replaced_and_the_own_row_restored() {
    let world = World::new(1, enforce(inflight(2)));
    world.arrive(0);
    let garbage = world
        .store
        .clone()
        .compare_and_set(KEY, b"something else", None);
    garbage.expect("works");
    assert_eq!(world.arrive(0), Decision::Admit);
    assert_eq!(record(&world).totals().open, 2);
}

#[test]
fn the_slots_of_a_worker_that_died_come_back_within_three_seconds() {
    let world = World::new(2, enforce(inflight(2)));
    world.arrive(0);
    world.arrive(0);
    assert_ne!(world.arrive(1), Decision::Admit);
    for _ in 0..29 {
        world.pass(100);
        world.tick(1); // worker 0 is silent
    }
    assert_eq!(world.arrive(1), Decision::Admit);
    assert_eq!(world.faults(Fault::WorkerReaped), 1);
}

#[test]
fn an_idle_worker_buries_the_dead_too() {
    let world = World::new(2, enforce(inflight(2)));
    world.arrive(0);
    // An idle worker ticks once a second, and never quite on time.
    for _ in 0..3 {
        world.pass(1001);
        world.tick(1);
    }
    assert_eq!(world.faults(Fault::WorkerReaped), 1);
    assert!(record(&world).rows().is_empty());
}

#[test]
fn a_worker_that_has_nothing_new_to_tell_is_not_taken_for_dead() {
    let world = World::new(2, enforce(inflight(2)));
    world.arrive(0);
    world.arrive(1);
    for _ in 0..600 {
        world.pass(100);
        world.tick_all();
    }
    assert_eq!(record(&world).totals().open, 2);
    assert_eq!(world.faults(Fault::WorkerReaped), 0);
}

#[test]
fn a_clock_that_steps_buries_nobody() {
    let world = World::new(2, enforce(inflight(2)));
    world.arrive(0);
    world.arrive(1);
    for clock in [10_000_000, 500, 86_400_000, 0, 2_100, 4_300] {
        world.set_now(Timestamp::from_millis(clock));
        for _ in 0..40 {
            world.tick_all();
            world.pass(100);
        }
    }
    assert_eq!(record(&world).totals().open, 2);
    assert_eq!(world.faults(Fault::WorkerReaped), 0);
    world.close_newest(0);
    world.close_newest(1);
    world.pass(100);
    world.tick_all();
    assert!(record(&world).rows().iter().all(|row| row.open == 0));
}

#[test]
fn after_a_clock_stepped_back_arrivals_wait_for_a_second_more_and_not_for_the_clock() {
    let limits = Limits {
        arrivals_per_s: some(2),
        ..Limits::default()
    };
    for workers in [1, 2] {
        let world = World::new(workers, enforce(limits));
        assert_eq!([world.arrive(0), world.arrive(0)], [Decision::Admit; 2]);
        world.set_now(Timestamp::from_millis(940_000));
        let refused = (0..600_usize).take_while(|nth| {
            world.beat();
            world.arrive(nth % workers as usize) != Decision::Admit
        });
        // What is remembered counts as of the first look by the new clock.
        assert!((10..15).contains(&refused.count()));
    }
}

#[test]
fn an_idle_gate_ends_up_idle() {
    let world = World::new(1, enforce(inflight(2)));
    world.arrive(0);
    world.close_newest(0);
    for _ in 0..80 {
        world.pass(100);
        world.tick(0);
    }
    let worker = world.workers[0].borrow();
    assert!(worker.gate.is_idle() && worker.gate.seen().is_idle());
    assert!(record(&world).rows().is_empty());
}
