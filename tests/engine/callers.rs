//! Who comes how often, against exact counts.

use std::collections::HashMap;

use proptest::prelude::*;
use tidegate::{
    engine::{Callers, MAX_CALLERS, MAX_KEY, OtherSeed, Spread, Timestamp, keyed_hash},
    scenario::{Scenario, Shape},
};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 42];

fn key(caller: u32) -> Vec<u8> {
    format!("10.0.{}.{}", caller / 256, caller % 256).into_bytes()
}

/// One table, lap after lap.
struct Table {
    callers: Callers,
    ms: u64,
}

impl Table {
    fn new() -> Self {
        Self {
            callers: Callers::new(SEED),
            ms: 1_000_000,
        }
    }

    /// One lap in which each of `arrivals` came so often.
    fn lap(&mut self, arrivals: &[(u32, u32)], calm: bool) {
        for (caller, count) in arrivals {
            for _ in 0..*count {
                self.callers.arrive(&key(*caller));
            }
        }
        self.ms += 100;
        self.callers.tick(Timestamp::from_millis(self.ms), calm);
    }

    /// Ten callers, each 10 a second, for two minutes.
    fn ten_steady_ones() -> Self {
        let mut table = Self::new();
        for _ in 0..1_200 {
            table.lap(&TEN, true);
        }
        table
    }
}

const TEN: [(u32, u32); 10] = {
    let mut ten = [(0, 1); 10];
    let mut caller = 0;
    while caller < 10 {
        ten[caller].0 = caller as u32;
        caller += 1;
    }
    ten
};

fn bytes(callers: &Callers) -> Vec<u8> {
    let mut out = Vec::new();
    callers.encode(&mut out);
    out
}

#[test]
fn the_hash_is_siphash_2_4() {
    // The reference vectors of Aumasson and Bernstein.
    let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    assert_eq!(keyed_hash(seed, &[]), 0x726f_db47_dd0e_0e31);
    assert_eq!(keyed_hash(seed, &[0]), 0x74f8_39c5_93dc_67fd);
}

#[test]
fn a_steady_caller_has_a_baseline_and_is_not_hot() {
    let table = Table::ten_steady_ones();
    for caller in 0..10 {
        let known = table.callers.find(&key(caller)).expect("has a place");
        assert!((known.baseline_per_s - 10.0).abs() < 0.1, "{known:?}");
        assert!((known.share - 0.1).abs() < 0.01);
        assert!(!known.hot);
    }
}

#[test]
fn one_caller_among_ten_is_named() {
    let mut table = Table::ten_steady_ones();
    let mut surge = TEN;
    surge[7].1 = 50;
    for _ in 0..10 {
        table.lap(&surge, false);
    }
    assert_eq!(table.callers.spread(), Spread::OneCaller);
    let all = table.callers.by_excess();
    assert_eq!(all[0].key, key(7));
    assert!(all[0].hot && all[0].share > 0.6);
    assert!((all[0].baseline_per_s - 10.0).abs() < 0.1);
    assert_eq!(all.iter().filter(|caller| caller.hot).count(), 1);
}

#[test]
fn a_newcomer_is_named_as_well() {
    let mut table = Table::ten_steady_ones();
    for _ in 0..10 {
        table.lap(&TEN, false);
        table.lap(&[(999, 100)], false);
    }
    assert_eq!(table.callers.spread(), Spread::OneCaller);
    assert_eq!(table.callers.by_excess()[0].key, key(999));
    assert_eq!(table.callers.by_excess()[0].baseline_per_s, 0.0);
}

#[test]
fn who_was_there_from_the_beginning_of_a_young_table_is_not_told_to_be_new() {
    let mut table = Table::new();
    for _ in 0..80 {
        table.lap(&TEN, true);
    }
    // A surge takes a moment to be seen.
    for _ in 0..3 {
        table.lap(&TEN, true);
        table.lap(&[(7, 20), (999, 10)], true);
    }
    let told = |caller| table.callers.find(&key(caller)).expect("has a place");
    let grown = told(7).baseline_per_s;
    assert!((10.0..20.0).contains(&grown), "{grown}");
    assert_eq!(told(999).baseline_per_s, 0.0);
}

#[test]
fn the_first_moment_of_a_flood_is_not_what_is_normal_for_it() {
    for laps in [50, 1_200] {
        let mut table = Table::new();
        for _ in 0..laps {
            table.lap(&TEN, true);
        }
        // A surge takes a moment to be seen.
        for calm in [true, true, false, false, false, false] {
            table.lap(&TEN, calm);
            table.callers.arrive_for(&key(999), 40);
        }
        let hot = table.callers.hot();
        assert_eq!(hot.len(), 1, "{hot:?}");
        assert_eq!(hot[0].caller, keyed_hash(SEED, &key(999)));
        assert!(hot[0].baseline_per_s < 20.0, "{hot:?}");
    }
}

#[test]
fn four_of_ten_are_few_and_eight_of_ten_are_everybody() {
    for (hot, spread) in [(4, Spread::FewCallers), (8, Spread::Everybody)] {
        let mut table = Table::ten_steady_ones();
        let mut surge = TEN;
        surge[..hot].iter_mut().for_each(|caller| caller.1 = 8);
        for _ in 0..20 {
            table.lap(&surge, false);
        }
        assert_eq!(table.callers.spread(), spread);
    }
}

/// Who makes a surge when all of `arrivals` are new, each with so many a lap.
fn spread_of_newcomers(arrivals: &[u32]) -> Spread {
    let mut table = Table::new();
    let arrivals: Vec<(u32, u32)> = (0..).zip(arrivals.iter().copied()).collect();
    for _ in 0..20 {
        table.lap(&arrivals, true);
    }
    table.callers.spread()
}

#[test]
fn where_all_are_new_whoever_makes_half_of_it_is_named() {
    for (arrivals, spread) in [
        (&[20, 1, 1][..], Spread::OneCaller),
        (&[20, 5, 5, 5], Spread::OneCaller),
        (&[30, 2, 2, 2, 2, 2, 2, 2, 2, 2], Spread::OneCaller),
        (&[5, 5, 5], Spread::Everybody),
        (&[5; 20], Spread::Everybody),
        (&[9, 5, 4, 3], Spread::Everybody),
        (&[20, 20, 1, 1], Spread::FewCallers),
        (&[20, 20, 1, 1, 1, 1, 1, 1, 1, 1], Spread::FewCallers),
    ] {
        assert_eq!(spread_of_newcomers(arrivals), spread, "{arrivals:?}");
    }
}

#[test]
fn a_culprit_among_three_newcomers_beside_those_who_are_known_is_named() {
    let mut table = Table::ten_steady_ones();
    for _ in 0..20 {
        table.lap(&TEN, false);
        table.lap(&[(997, 3), (998, 3), (999, 60)], false);
    }
    assert_eq!(table.callers.spread(), Spread::OneCaller);
    assert_eq!(table.callers.by_excess()[0].key, key(999));
}

#[test]
fn the_largest_of_those_who_all_come_three_times_as_often_is_no_culprit() {
    let normal: Vec<(u32, u32)> = (0..9).map(|caller| (caller, 2)).collect();
    let normal = [&normal[..], &[(9, 40)]].concat();
    let mut table = Table::new();
    for _ in 0..1_200 {
        table.lap(&normal, true);
    }
    let threefold: Vec<_> = normal
        .iter()
        .map(|(who, often)| (*who, 3 * often))
        .collect();
    let mut one = normal.clone();
    one[9].1 *= 3;
    for (arrivals, spread) in [(threefold, Spread::Everybody), (one, Spread::OneCaller)] {
        let mut table = Table {
            callers: table.callers.clone(),
            ms: table.ms,
        };
        for _ in 0..20 {
            table.lap(&arrivals, false);
        }
        assert_eq!(table.callers.spread(), spread);
    }
}

#[test]
fn a_flood_of_new_keys_is_everybody_and_makes_nobody_forgotten() {
    let mut table = Table::ten_steady_ones();
    let before: Vec<f64> = (0..10)
        .map(|caller| {
            table
                .callers
                .find(&key(caller))
                .expect("known")
                .baseline_per_s
        })
        .collect();
    let mut next = 1_000;
    for _ in 0..100 {
        table.lap(&TEN, false);
        let flood: Vec<(u32, u32)> = (next..next + 1_000).map(|caller| (caller, 1)).collect();
        next += 1_000;
        table.lap(&flood, false);
    }
    assert_eq!(table.callers.len(), MAX_CALLERS);
    assert_eq!(table.callers.spread(), Spread::Everybody);
    for (caller, before) in before.into_iter().enumerate() {
        let known = table
            .callers
            .find(&key(caller as u32))
            .expect("still there");
        assert_eq!(known.baseline_per_s, before);
        assert_eq!(known.error, 0.0);
    }
    // A newcomer that really comes often finds a place in the flood.
    for _ in 0..50 {
        let mut flood: Vec<(u32, u32)> = (next..next + 500).map(|caller| (caller, 1)).collect();
        next += 500;
        flood.push((77_777 + 500_000, 100));
        table.lap(&flood, false);
    }
    assert!(table.callers.find(&key(577_777)).expect("a place").hot);
}

/// So many slots find the places of a table.
const SLOTS: u64 = 2 * MAX_CALLERS as u64;

/// Numbers of callers whose keys all want the same slot under this seed.
fn colliding(count: usize) -> Vec<u32> {
    let wants = |caller: &u32| keyed_hash(SEED, &key(*caller)).is_multiple_of(SLOTS);
    (1_000_000..).filter(wants).take(count).collect()
}

#[test]
fn who_knows_the_seed_can_neither_make_a_table_grow_nor_make_it_forget() {
    let mut table = Table::ten_steady_ones();
    let all = colliding(1_000);
    for some in all.chunks(50).cycle().take(100) {
        let flood: Vec<(u32, u32)> = some.iter().map(|caller| (*caller, 1)).collect();
        table.lap(&TEN, false);
        table.lap(&flood, false);
        let size = bytes(&table.callers).len();
        assert!(size <= 32 << 10, "{size} bytes");
    }
    assert_eq!(table.callers.len(), MAX_CALLERS);
    for (caller, _) in TEN {
        let known = table.callers.find(&key(caller)).expect("still there");
        assert_eq!(known.error, 0.0);
    }
    // Whoever is found is found as who it is.
    let found = all
        .iter()
        .filter(|caller| table.callers.find(&key(**caller)).is_some());
    assert_eq!(found.count(), MAX_CALLERS - TEN.len());
}

#[test]
fn keys_that_collide_under_one_seed_are_spread_by_another() {
    let mut wanted = [0_u32; SLOTS as usize];
    for caller in colliding(MAX_CALLERS) {
        let slot = keyed_hash([SEED[0], SEED[1] ^ 1], &key(caller)) % SLOTS;
        wanted[slot as usize] += 1;
    }
    // As many as chance makes of 256 in 512.
    assert!(wanted.iter().max() <= Some(&6), "{wanted:?}");
}

#[test]
fn an_id_of_a_caller_that_lost_its_place_is_nobody() {
    let mut callers = Callers::new(SEED);
    let first = callers.arrive(b"first");
    assert_eq!(callers.get(first).expect("known").weight, 1.0);
    for caller in 0..2_000 {
        callers.arrive(&key(caller));
    }
    assert_eq!(callers.get(first), None);
    let before = bytes(&callers);
    callers.passed(first, 1);
    assert_eq!(bytes(&callers), before);
}

#[test]
fn a_newcomer_takes_the_place_of_the_lightest_and_of_those_the_oldest() {
    let mut callers = Callers::new(SEED);
    let places = MAX_CALLERS as u32;
    for caller in 0..places {
        callers.arrive(&key(caller));
    }
    // All but these come a second time, one of them after it was the next to go.
    let light = [7, 100, 200];
    let again = |caller: &u32| !light.contains(caller);
    (0..places).filter(again).for_each(|caller| {
        callers.arrive(&key(caller));
    });
    callers.arrive(&key(1_000));
    assert!(callers.find(&key(7)).is_none());
    callers.arrive(&key(100));
    callers.arrive(&key(1_001));
    assert!(callers.find(&key(200)).is_none());
    // All weigh 2 by now, and the first to have come goes first.
    callers.arrive(&key(1_002));
    assert!(callers.find(&key(0)).is_none() && callers.find(&key(1)).is_some());
}

#[test]
fn a_long_key_is_named_by_its_beginning_and_told_apart_by_all_of_it() {
    let mut callers = Callers::new(SEED);
    let long = [b'a'; 1_000];
    let mut other = long;
    other[999] = b'b';
    callers.arrive(&long);
    callers.arrive(&long);
    callers.arrive(&other);
    assert_eq!(callers.find(&long).expect("known").weight, 2.0);
    assert_eq!(callers.find(&other).expect("known").weight, 1.0);
    assert_eq!(callers.find(&other).expect("known").key.len(), MAX_KEY);
}

#[test]
fn the_noisy_caller_of_a_scenario_is_named_within_a_second() {
    let shape = Shape::OneCaller {
        at: 120.0,
        factor: 5.0,
        lasts: 60.0,
    };
    let mut scenario = Scenario::new(200.0, 3).shape(shape);
    let mut table = Table::new();
    let mut counts = [0; 20];
    for lap in 0..1_210 {
        scenario.next_by_caller(&mut counts);
        let arrivals: Vec<(u32, u32)> = (0..).zip(counts).collect();
        table.lap(&arrivals, lap < 1_200);
    }
    assert_eq!(table.callers.spread(), Spread::OneCaller);
    assert_eq!(table.callers.by_excess()[0].key, key(0));
}

#[test]
fn tables_of_different_seeds_are_not_merged() {
    let mut callers = Callers::new(SEED);
    callers.arrive(b"one");
    let before = callers.clone();
    assert_eq!(callers.merge(&Callers::new([1, 2])), Err(OtherSeed));
    assert_eq!(callers, before);
}

/// Few callers that come often, and many that do not.
fn arrivals(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0_u32..20, 0_u32..3_000], 0..most)
}

/// No caller came less often than the table says, nor more often.
fn check(callers: &Callers, exact: &HashMap<u32, u32>) -> Result<(), TestCaseError> {
    for (caller, count) in exact {
        let count = f64::from(*count);
        match callers.find(&key(*caller)) {
            Some(known) => {
                prop_assert!(known.weight - known.error <= count && count <= known.weight);
            }
            None => prop_assert!(count <= callers.floor()),
        }
    }
    prop_assert!(callers.len() <= MAX_CALLERS);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_caller_came_more_or_less_often_than_the_table_says(list in arrivals(4_000)) {
        let mut callers = Callers::new(SEED);
        let mut exact = HashMap::new();
        for caller in &list {
            callers.arrive(&key(*caller));
            *exact.entry(*caller).or_insert(0) += 1;
        }
        check(&callers, &exact)?;
        prop_assert!(callers.floor() <= list.len() as f64 / 128.0);
    }

    #[test]
    fn a_merged_table_keeps_its_word(lists in prop::collection::vec(arrivals(2_000), 1..5)) {
        let mut whole = Callers::new(SEED);
        let mut exact = HashMap::new();
        for list in &lists {
            let mut callers = Callers::new(SEED);
            for caller in list {
                callers.arrive(&key(*caller));
                *exact.entry(*caller).or_insert(0) += 1;
            }
            whole.merge(&callers).expect("the same seed");
        }
        check(&whole, &exact)?;
    }

    #[test]
    fn whoever_loses_a_place_is_the_one_that_a_pass_over_all_finds(
        list in arrivals(3_000),
        laps in prop::collection::vec(1_usize..200, 1..20),
    ) {
        let mut table = Table::new();
        // Who has a place since when, and with what weight.
        let mut all: Vec<(u32, usize, f64)> = Vec::new();
        let (mut floor, mut lap) = (0.0, laps.iter().cycle());
        let mut left = lap.next().copied();
        for (since, caller) in list.iter().enumerate() {
            table.callers.arrive(&key(*caller));
            if let Some((.., weight)) = all.iter_mut().find(|(known, ..)| known == caller) {
                *weight += 1.0;
            } else {
                if all.len() == MAX_CALLERS {
                    let order = |a: &(u32, usize, f64), b: &(u32, usize, f64)| {
                        a.2.total_cmp(&b.2).then(a.1.cmp(&b.1))
                    };
                    let least = (0..all.len()).min_by(|a, b| order(&all[*a], &all[*b]));
                    let (.., gone) = all.swap_remove(least.expect("somebody"));
                    floor = gone.max(floor);
                }
                all.push((*caller, since, floor + 1.0));
            }
            left = left.map(|left| left - 1);
            if left == Some(0) {
                left = lap.next().copied();
                table.ms += 100;
                // The first tick only begins to count time.
                let slow = if since < laps[0] { 1.0 } else { libm::exp(-0.1 / 600.0) };
                table.callers.tick(Timestamp::from_millis(table.ms), false);
                floor *= slow;
                all.iter_mut().for_each(|(.., weight)| *weight *= slow);
            }
        }
        for (caller, _, weight) in all {
            let found = table.callers.find(&key(caller)).map(|caller| caller.weight);
            prop_assert_eq!(found, Some(weight), "{}", caller);
        }
    }

    #[test]
    fn a_table_goes_on_from_its_bytes(
        list in arrivals(1_500),
        more in arrivals(500),
        gaps in prop::collection::vec(0_u64..100_000, 1..50),
    ) {
        let mut table = Table::new();
        for (index, caller) in list.iter().enumerate() {
            table.callers.arrive(&key(*caller));
            if index % 20 == 0 {
                table.ms += gaps[index % gaps.len()];
                table.callers.tick(Timestamp::from_millis(table.ms), index % 3 > 0);
            }
        }
        let saved = bytes(&table.callers);
        prop_assert!(saved.len() <= 32 * 1024);
        let mut restored = Callers::decode(&saved).expect("its own bytes");
        prop_assert_eq!(&restored, &table.callers);
        for caller in more {
            prop_assert_eq!(restored.arrive(&key(caller)), table.callers.arrive(&key(caller)));
        }
        prop_assert_eq!(bytes(&restored), bytes(&table.callers));
        prop_assert_eq!(restored.spread(), table.callers.spread());
    }

    #[test]
    fn any_bytes_decode_without_panic(
        list in arrivals(300),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        clocks in prop::collection::vec(any::<u64>(), 0..10),
    ) {
        let mut callers = Callers::new(SEED);
        for caller in &list {
            callers.arrive(&key(*caller));
        }
        let mut saved = bytes(&callers);
        for (place, byte) in damage {
            let place = place.index(saved.len());
            saved[place] = byte;
        }
        if let Ok(mut damaged) = Callers::decode(&saved) {
            for (caller, clock) in (0..).zip(clocks) {
                damaged.arrive(&key(caller));
                damaged.tick(Timestamp::from_nanos(clock), clock % 2 == 0);
            }
            damaged.spread();
            let sound = |caller: &tidegate::engine::Caller<'_>| {
                caller.rate_per_s.is_finite() && caller.baseline_per_s.is_finite()
            };
            prop_assert!(damaged.by_excess().iter().all(sound));
        }
        let _ = Callers::decode(&noise);
        // Behind the mark of this version, which is checked first.
        let mut ours = Vec::new();
        Callers::new([1, 2]).encode(&mut ours);
        ours.truncate(4);
        ours.extend(noise);
        let _ = Callers::decode(&ours);
    }
}
