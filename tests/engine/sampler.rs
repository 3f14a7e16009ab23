//! Which of many events are looked at.

use proptest::prelude::*;
use tidegate::engine::Sampler;

/// The looks in a lap of so many events, and what they stand for.
fn lap(sampler: &mut Sampler, events: u32) -> (u32, u32) {
    sampler.lap();
    (0..events).fold((0, 0), |(looks, sum), _| {
        let weight = sampler.weight();
        (looks + u32::from(weight > 0), sum + u32::from(weight))
    })
}

#[test]
fn the_few_of_a_quiet_lap_are_each_looked_at() {
    let mut sampler = Sampler::default();
    for _ in 0..100 {
        assert_eq!(lap(&mut sampler, 8), (8, 8));
    }
}

#[test]
fn the_many_of_a_busy_lap_cost_few_looks() {
    let mut sampler = Sampler::default();
    assert_eq!(lap(&mut sampler, 136), (16, 136));
    assert_eq!(lap(&mut sampler, 1416), (26, 1416));
    let mut sampler = Sampler::of(2);
    assert_eq!(lap(&mut sampler, 34), (4, 34));
    assert_eq!(lap(&mut sampler, 34 + 1280), (14, 34 + 1280));
}

proptest! {
    #[test]
    fn the_looks_stand_for_all_events_but_for_a_few_that_are_still_to_come(
        laps in prop::collection::vec(0..2000_u32, 0..100),
        each in 0..=u32::MAX,
    ) {
        let mut sampler = Sampler::of(each);
        let stand_for: u32 = laps.iter().map(|&events| lap(&mut sampler, events).1).sum();
        let all: u32 = laps.iter().sum();
        prop_assert!(stand_for <= all && all < stand_for + 16 + 128, "{stand_for} of {all}");
    }
}
