//! The shapes of the field's incidents, played before the real engine in virtual time.
//!
//! What a surge must not do, whatever its shape: open more than the limit, lose a slot, or go on by
//! itself when what caused it is over. How well each shape is served is measured by
//! `cargo xtask bench surge --only simulation`; the bars here are a little below that.

#[allow(dead_code, reason = "the benchmark shows the rest of it")]
mod model;

use model::{Numbers, Policy, Shape, play, shapes};

/// Plays a shape with one worker and with several, and judges each by what must always hold and by
/// `judge`.
fn ours(shape: &Shape, mut judge: impl FnMut(&Numbers) -> bool) {
    for workers in [1, 4] {
        let run = play(shape, Policy::Tidegate(workers));
        let (slug, numbers) = (shape.slug, &run.numbers);
        let told = format!("{slug} with {workers} workers: {numbers:?}");
        assert!(numbers.peak <= shape.rule.limit as usize, "{told}");
        assert_eq!(run.lost, 0, "slots were lost; {told}");
        assert!(numbers.calm_percent >= 99.0, "{told}");
        assert!(numbers.recovers_in_s.is_some(), "it goes on; {told}");
        assert!(judge(numbers), "{told}");
    }
}

/// Whether it is normal again after so many seconds.
fn recovers_within(numbers: &Numbers, seconds: u32) -> bool {
    numbers.recovers_in_s.is_some_and(|took| took <= seconds)
}

/// Nobody notices the trouble.
fn is_calm(numbers: &Numbers) -> bool {
    numbers.goodput_percent >= 95.0
        && numbers.failed_users_percent == 0.0
        && numbers.failed_attempts_percent <= 1.0
        && numbers.p99_ms.is_some_and(|took| took <= 330.0)
        && recovers_within(numbers, 1)
}

#[test]
fn where_nothing_happens_nobody_is_refused() {
    ours(&shapes::calm(false), is_calm);
    ours(&shapes::calm(true), is_calm);
}

#[test]
fn who_is_normal_is_learned_although_it_began_in_a_busy_moment() {
    for seed in 1..=20 {
        ours(&shapes::calm(false).seed(seed), is_calm);
    }
}

#[test]
fn a_storm_of_connections_of_one_caller_is_noticed_by_nobody_else() {
    ours(&shapes::storm(), is_calm);
}

#[test]
fn a_culprit_that_grew_long_before_is_noticed_by_nobody_else() {
    ours(&shapes::shipped_earlier(210.0), is_calm);
}

#[test]
fn a_culprit_that_grew_for_an_hour_leaves_the_others_served() {
    // What it took within the hour has become normal for it, and takes a moment to be cut.
    ours(&shapes::shipped_earlier(3600.0), |numbers| {
        numbers.goodput_percent >= 97.0
            && numbers.failed_attempts_percent <= 8.0
            && recovers_within(numbers, 5)
    });
}

#[test]
fn nobody_is_refused_for_the_pressure_of_a_culprit_that_is_cut() {
    ours(&shapes::storm().seed(5), |numbers| {
        numbers.failed_users_percent == 0.0 && numbers.failed_attempts_percent <= 2.0
    });
}

#[test]
fn what_gathered_silently_is_served_in_part_and_then_it_is_over() {
    let shape = shapes::build_up();
    ours(&shape, |numbers| {
        numbers.goodput_percent >= 60.0 && recovers_within(numbers, 10)
    });
    let fifo = play(&shape, Policy::Fifo).numbers;
    assert!(
        fifo.goodput_percent < 20.0,
        "a queue serves the dead: {fifo:?}"
    );
}

#[test]
fn where_everybody_comes_more_often_few_users_change_sides() {
    let mut mixed = Vec::new();
    for seed in 1..=8 {
        ours(&shapes::everybody().seed(seed), |numbers| {
            mixed.push(numbers.mixed_users_percent);
            numbers.goodput_percent >= 68.0 && recovers_within(numbers, 5)
        });
    }
    // Chance alone makes one or the other of 60 users wait in vain.
    let mean = mixed.iter().sum::<f64>() / mixed.len() as f64;
    assert!(mean <= 18.0, "{mixed:?}");
}

#[test]
fn a_throttle_that_is_lifted_at_once_is_no_second_outage() {
    let shape = shapes::throttle_lifted();
    ours(&shape, |numbers| {
        numbers.goodput_percent >= 55.0 && recovers_within(numbers, 30)
    });
    let none = play(&shape, Policy::None).numbers;
    assert_eq!(none.recovers_in_s, None, "without a guard it goes on");
}

#[test]
fn after_a_restart_all_are_connected_again() {
    let shape = shapes::restart();
    ours(&shape, |numbers| {
        numbers.goodput_percent >= 45.0 && recovers_within(numbers, 35)
    });
    let none = play(&shape, Policy::None).numbers;
    assert_eq!(none.recovers_in_s, None, "without a guard none ever is");
}

#[test]
fn when_four_of_five_come_back_at_once_they_are_let_in_as_fast_as_is_possible() {
    let shape = shapes::come_back();
    ours(&shape, |numbers| {
        numbers.goodput_percent >= 90.0 && recovers_within(numbers, 5)
    });
    let none = play(&shape, Policy::None).numbers;
    assert_eq!(none.recovers_in_s, None, "without a guard none ever is");
}

#[test]
fn an_upstream_that_answers_again_after_a_silence_is_used_again() {
    // No share is small enough while nobody is answered: all come in again at once.
    ours(&shapes::silence(), |numbers| {
        numbers.goodput_percent >= 68.0 && recovers_within(numbers, 3)
    });
}

#[test]
fn an_upstream_that_comes_and_goes_is_used_while_it_is_there() {
    ours(&shapes::flapping(false), |numbers| {
        numbers.goodput_percent >= 75.0 && recovers_within(numbers, 20)
    });
}

#[test]
fn a_limit_that_adapts_does_not_keep_an_upstream_closed_that_was_down() {
    ours(&shapes::flapping(true), |numbers| {
        numbers.goodput_percent >= 75.0 && recovers_within(numbers, 20)
    });
}
