//! What arrivals, open connections and the upstream's answers say together.

use proptest::prelude::*;
use tidegate::engine::{Alarm, Answers, DetectorConfig, Distress, Gauge, Phase, Seen, Timestamp};

fn warm_gauge(open: u32) -> Gauge {
    let mut gauge = Gauge::default();
    for lap in 0..6_000 {
        gauge.lap(open + lap % 3, true);
    }
    gauge
}

fn alarm() -> Alarm {
    Alarm::new(DetectorConfig::default())
}

fn seen(arrivals: u32, open: u32) -> Seen {
    Seen {
        arrivals,
        open,
        answers: Answers {
            good: arrivals,
            ..Answers::default()
        },
        saturated: false,
    }
}

/// Ticks until `ms`, 100 ms apart.
fn run(alarm: &mut Alarm, ms: &mut u64, laps: u32, what: Seen) {
    for _ in 0..laps {
        *ms += 100;
        alarm.tick(what, Timestamp::from_millis(*ms));
    }
}

#[test]
fn threefold_open_connections_are_abnormal_within_one_lap() {
    let mut gauge = warm_gauge(65);
    assert!(!gauge.lap(110, true), "less than twice");
    assert!(gauge.lap(193, true));
}

#[test]
fn a_few_more_than_next_to_none_are_normal() {
    let mut gauge = warm_gauge(2);
    assert!(!gauge.lap(22, true), "not 20 more");
    assert!(gauge.lap(26, true));
}

#[test]
fn an_abnormal_gauge_is_over_after_five_quiet_seconds() {
    let mut gauge = warm_gauge(65);
    assert!((0..100).all(|_| gauge.lap(300, true)));
    let laps = (1..200).find(|_| !gauge.lap(66, true)).expect("it ends");
    assert_eq!(laps, 50);
    assert!((gauge.baseline() / 66.0 - 1.0).abs() < 0.05);
}

#[test]
fn a_gauge_that_stays_high_is_normal_after_half_an_hour_unless_the_upstream_suffers() {
    for healthy in [true, false] {
        let mut gauge = warm_gauge(65);
        for _ in 0..18_000 {
            gauge.lap(195, healthy);
        }
        assert_eq!(gauge.is_abnormal(), !healthy);
    }
}

#[test]
fn distress_begins_with_a_tenth_of_bad_answers_and_ends_five_seconds_after_them() {
    let mut distress = Distress::default();
    let tick = |distress: &mut Distress, ms: u64, good, refused| {
        let answers = Answers {
            good,
            refused,
            ..Answers::default()
        };
        distress.tick(answers, Timestamp::from_millis(ms))
    };
    assert!(!tick(&mut distress, 1_000_000, 20, 4), "four are none");
    assert!(!tick(&mut distress, 1_001_000, 100, 1), "one in 25 is none");
    assert!(tick(&mut distress, 1_002_000, 0, 20));
    assert!(tick(&mut distress, 1_006_000, 50, 0), "they are remembered");
    let over = (1_006_000..).step_by(100);
    let over = over.take(200).find(|ms| !tick(&mut distress, *ms, 5, 0));
    let over = over.expect("it ends");
    assert!((1_007_000..1_014_000).contains(&over), "{over}");
    // A clock that steps back for years does not hold it.
    assert!(tick(&mut distress, 1_020_000, 0, 20));
    let back = (0..).step_by(100).take(300);
    assert!(back.into_iter().any(|ms| !tick(&mut distress, ms, 5, 0)));
}

#[test]
fn a_surge_that_the_upstream_takes_is_reported_and_not_shed() {
    let (mut alarm, mut ms) = (alarm(), 0);
    run(&mut alarm, &mut ms, 1_000, seen(50, 40));
    run(&mut alarm, &mut ms, 30, seen(300, 70));
    assert_eq!(alarm.phase(), Phase::Surge);
    assert!(!alarm.may_shed());
    let full = Seen {
        saturated: true,
        ..seen(300, 79)
    };
    run(&mut alarm, &mut ms, 1, full);
    assert!(alarm.may_shed());
    let refusing = Seen {
        answers: Answers {
            good: 50,
            refused: 250,
            ..Answers::default()
        },
        ..seen(300, 70)
    };
    run(&mut alarm, &mut ms, 10, refusing);
    assert!(alarm.may_shed());
}

#[test]
fn an_upstream_in_distress_without_a_surge_is_not_shed_for() {
    let (mut alarm, mut ms) = (alarm(), 0);
    run(&mut alarm, &mut ms, 1_000, seen(50, 40));
    let silent = Seen {
        answers: Answers {
            silent: 50,
            ..Answers::default()
        },
        saturated: true,
        ..seen(50, 45)
    };
    run(&mut alarm, &mut ms, 50, silent);
    assert!(alarm.distress().is_distressed());
    assert!(!alarm.may_shed());
}

#[test]
fn connections_that_pile_up_are_a_surge_without_more_arrivals() {
    let (mut alarm, mut ms) = (alarm(), 0);
    run(&mut alarm, &mut ms, 1_000, seen(50, 65));
    ms += 100;
    let changes = alarm.tick(seen(50, 193), Timestamp::from_millis(ms));
    assert!(changes.surge_began);
    assert_eq!(alarm.phase(), Phase::Surge);
    assert_eq!(alarm.detector.phase(), Phase::Calm);
}

#[test]
fn both_signals_are_one_surge() {
    let (mut alarm, mut ms) = (alarm(), 0);
    run(&mut alarm, &mut ms, 1_000, seen(50, 65));
    let (mut began, mut ended) = (0, 0);
    for lap in 0..2_000 {
        ms += 100;
        let what = match lap {
            0..200 => seen(50, 300),
            200..400 => seen(500, 300),
            _ => seen(50, 65),
        };
        let changes = alarm.tick(what, Timestamp::from_millis(ms));
        began += u32::from(changes.surge_began);
        ended += u32::from(changes.surge_ended);
    }
    assert_eq!((began, ended), (1, 1));
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes_and_damage_never_hurts(
        ticks in prop::collection::vec((0_u32..500, 0_u32..500, 0_u32..50, any::<bool>()), 0..200),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let (mut alarm, mut ms) = (alarm(), 5_000_000);
        run(&mut alarm, &mut ms, 700, seen(50, 40));
        for (arrivals, open, refused, saturated) in ticks {
            let answers = Answers { good: arrivals, refused, ..Answers::default() };
            run(&mut alarm, &mut ms, 1, Seen { arrivals, open, answers, saturated });
        }
        let mut bytes = Vec::new();
        alarm.encode(&mut bytes);
        prop_assert!(bytes.len() < 2_000);
        prop_assert_eq!(&Alarm::decode(&bytes, DetectorConfig::default()), &Ok(alarm));
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(mut damaged) = Alarm::decode(&bytes, DetectorConfig::default()) {
            run(&mut damaged, &mut ms, 20, seen(u32::MAX, u32::MAX));
            run(&mut damaged, &mut ms, 20, seen(0, 0));
            prop_assert!(damaged.gauge().level().is_finite());
            prop_assert!(damaged.detector.baseline_per_s().is_finite());
        }
    }
}
