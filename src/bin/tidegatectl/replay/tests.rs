//! Replays without a process around them.

use proptest::{collection::vec, prelude::*};
use tidegate::{
    engine::{Lookout, Phase, Standing, TideRecord, Timestamp},
    scenario::{Scenario, Shape},
    store::{MemoryStore, SharedRecord},
};

use super::{guarded::Guarded, plain::Plain, whom::Known, *};

const START_MS: u64 = 1_700_000_000_000;

fn policy(json: &str) -> Policy {
    config::parse(json.as_bytes(), Build::THIS).unwrap()
}

fn replayed(policy: &Policy, trace: &[u8]) -> Option<Findings> {
    replay(policy, trace, "trace", &ProgressBar::hidden(), &mut |_| ()).unwrap()
}

/// A row for each lap, whose arrivals came until its time.
fn csv(laps: &[u32]) -> String {
    let mut text = "t,count\n".to_owned();
    for (lap, count) in (1_u64..).zip(laps) {
        let ms = START_MS + lap * 100;
        text += &format!("{}.{},{count}\n", ms / 1000, ms / 100 % 10);
    }
    text
}

/// The surges that a worker of the plugin sees, through a store.
fn in_a_store(laps: &[u32]) -> Vec<(f64, Option<f64>)> {
    let mut store = MemoryStore::default();
    let mut lookout = Lookout::default();
    let mut surges: Vec<(f64, Option<f64>)> = Vec::new();
    let setting = policy("").rules()[0].surge;
    for (lap, &count) in (0_u64..).zip(laps) {
        let at = |part: u64| Timestamp::from_nanos((START_MS + lap * 100) * 1_000_000 + part);
        let mut tide = SharedRecord::<_, TideRecord>::new(&mut store, "tide", setting);
        for index in 0..count {
            if lookout.on_arrival() {
                let now = at(100_000_000 * u64::from(index) / u64::from(count));
                let report = lookout.hurry(now, &mut tide).unwrap();
                if report.surges > 0 {
                    surges.push((found::seconds(now), None));
                }
            }
        }
        let now = at(100_000_000);
        if let Some(report) = lookout
            .on_tick(now, Standing::default(), &mut tide)
            .unwrap()
        {
            if let Some((_, end @ None)) = surges.last_mut()
                && report.phase != Phase::Surge
            {
                *end = Some(found::seconds(now));
            }
            if report.surges > 0 {
                surges.push((found::seconds(now), None));
            }
        }
    }
    surges
}

#[test]
fn a_replay_sees_the_surges_that_a_worker_sees_through_its_store() {
    let shapes = [
        Shape::Flapping {
            at: 120.0,
            factor: 6.0,
            period: 60.0,
        },
        Shape::FlashCrowd {
            at: 200.0,
            factor: 15.0,
            halving: 30.0,
        },
        Shape::Step {
            at: 300.0,
            factor: 2.6,
            lasts: 100.0,
        },
    ];
    for (seed, shape) in (1..).zip(shapes) {
        let scenario = Scenario::new(80.0, seed).shape(shape);
        let laps: Vec<u32> = scenario.take(6000).collect();
        let expected = in_a_store(&laps);
        assert!(!expected.is_empty());
        let findings = replayed(&policy(""), csv(&laps).as_bytes()).unwrap();
        let surges: Vec<_> = findings.rules[0]
            .surges
            .iter()
            .map(|surge| (surge.start.0, surge.end.map(|end| end.0)))
            .collect();
        assert_eq!(surges, expected, "{shape:?}");
    }
}

#[test]
fn a_rule_that_decides_nothing_is_replayed_as_one_that_does() {
    let policy = policy("");
    let rule = &policy.rules()[0];
    let flapping = Shape::Flapping {
        at: 900.0,
        factor: 6.0,
        period: 60.0,
    };
    // Quiet enough for laps without arrivals, then a hole, and after a day a climb that is warned of.
    let mut laps: Vec<u32> = Scenario::new(3.0, 1).shape(flapping).take(20_000).collect();
    laps.extend([0; 10_000]);
    laps.extend(Scenario::new(40.0, 2).day(2.0).take(900_000));
    laps.extend(Scenario::new(120.0, 3).take(100_000));
    let mut plain = Plain::new("default", rule.surge);
    let mut guarded = Guarded::new(rule, true, false);
    let nobody = Known::default();
    let mut end = Timestamp::ZERO;
    for (lap, &many) in (0..).zip(&laps) {
        end = Timestamp::from_millis(START_MS + lap * 100);
        if many > 0 {
            plain.arrive(end, many);
            guarded.arrive(end, many, |most| (&nobody, most));
        }
    }
    let (plain, guarded) = (plain.finish(end), guarded.finish(end));
    assert!(plain.surges.len() > 2 && !plain.drift_warnings.is_empty());
    assert_eq!(plain.series.columns(500), guarded.series.columns(500));
    let json = |found| serde_json::to_value(found).unwrap();
    assert_eq!(json(plain), json(guarded));
}

#[test]
fn a_billion_arrivals_a_row_take_no_longer_than_one() {
    let mut trace = "t,count\n".to_owned();
    for minute in 0..50 {
        trace += &format!("{},1000000000\n", START_MS / 1000 + minute * 60);
    }
    let began = std::time::Instant::now();
    let findings = replayed(&policy(""), trace.as_bytes()).unwrap();
    assert_eq!(findings.rules[0].arrivals, 50_000_000_000);
    // One by one they take minutes.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn a_rule_whose_only_arrivals_are_centuries_before_the_end_is_not_followed_until_then() {
    let rules = policy(
        r#"{"rules": [{"name": "db", "match": {"source": ["10.9.0.0/16"]}}, {"name": "rest"}]}"#,
    );
    for [header, value] in [["count", "3"], ["duration_s", "0.5"]] {
        let trace = format!("t,key,{header}\n5,10.9.0.1,{value}\n9000000000,10.1.0.1,{value}\n");
        let findings = replayed(&rules, trace.as_bytes()).unwrap();
        let arrivals: Vec<_> = findings.rules.iter().map(|rule| rule.arrivals).collect();
        assert!(matches!(arrivals[..], [1, 1] | [3, 3]), "{arrivals:?}");
    }
}

#[test]
fn a_billion_arrivals_over_a_limit_are_decided_in_bundles_and_the_limit_holds() {
    let limited = policy(r#"{"rules": [{"name": "a", "limits": {"arrivals_per_s": 2000}}]}"#);
    let began = std::time::Instant::now();
    for header in ["t,count", "t,key,count"] {
        let mut trace = format!("{header}\n");
        for minute in 0..4_u32 {
            let t = START_MS / 1000 + u64::from(minute) * 60;
            trace += &match header {
                "t,count" => format!("{t},1000000000\n"),
                _ => (0..20)
                    .map(|key| format!("{t},10.0.0.{key},50000000\n"))
                    .collect(),
            };
        }
        let mut told = String::new();
        let findings = replay(
            &limited,
            trace.as_bytes(),
            "trace",
            &ProgressBar::hidden(),
            &mut |line| told += line,
        );
        let rule = &findings.unwrap().unwrap().rules[0];
        assert!(told.contains("decided together"), "{told}");
        assert_eq!(rule.arrivals, 4_000_000_000);
        assert_eq!(rule.admitted + rule.rejected, rule.arrivals);
        // 2,000/s for 240 s; the window may count a twentieth of a second too much.
        assert!(
            (440_000..=482_000).contains(&rule.admitted),
            "{}",
            rule.admitted
        );
    }
    // One by one they take hours.
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}

#[test]
fn bundles_admit_hold_and_refuse_about_as_many_as_one_by_one() {
    let limited = policy(
        r#"{"rules": [{"name": "a", "limits": {"arrivals_per_s": 1500},
            "surge": {"baseline_per_s": 3000}}]}"#,
    );
    let rule = &limited.rules()[0];
    let nobody = Known::default();
    let brief = guarded::Stream {
        lasts: std::time::Duration::ZERO,
        http: false,
        answers: Default::default(),
    };
    let laps: Vec<u32> = Scenario::new(3000.0, 5).take(600).collect();
    let run = |apart: bool| {
        let mut lane = Guarded::new(rule, true, false);
        let mut end = Timestamp::ZERO;
        for (lap, &many) in (0..).zip(&laps) {
            end = Timestamp::from_millis(START_MS + lap * 100);
            if apart {
                for index in 0..many {
                    let at = clock::within(end, index, many);
                    lane.begin(at, &brief, &nobody);
                }
            } else {
                lane.arrive(end, many, |most| (&nobody, most));
            }
        }
        lane.finish(end)
    };
    let (apart, bundled) = (run(true), run(false));
    assert!(bundled.bundled && !apart.bundled);
    assert_eq!(bundled.arrivals, apart.arrivals);
    for (bundled, apart) in [
        (bundled.admitted, apart.admitted),
        (bundled.held, apart.held),
        (bundled.rejected, apart.rejected),
    ] {
        let off = bundled.abs_diff(apart) as f64 / apart as f64;
        assert!(off < 0.05, "{bundled} {apart}");
    }
}

#[test]
fn nothing_is_lost_when_coarse_rows_are_spread_over_rules_and_callers() {
    let rules = r#"{"rules": [{"name": "a", "match": {"source": ["10.0.0.0/8"]}},
        {"name": "b", "limits": {"arrivals_per_s": 30}}]}"#;
    let mut trace = "t,key,count\n".to_owned();
    for minute in 1..=30 {
        for caller in 0..20 {
            trace += &format!("{},10.0.0.{caller},{caller}\n", minute * 60);
            trace += &format!("{},198.51.100.{caller},{}\n", minute * 60, caller * 10);
        }
    }
    let findings = replayed(&policy(rules), trace.as_bytes()).unwrap();
    let [a, b] = &findings.rules[..] else {
        panic!("two rules")
    };
    assert_eq!((a.arrivals, a.admitted), (190 * 30, 190 * 30));
    assert_eq!(b.arrivals, 1900 * 30);
    assert_eq!(b.admitted + b.rejected, b.arrivals);
    // 31.7/s, of which 30 fit in any second.
    assert!(b.rejected > 1000 && b.rejected < 20_000, "{}", b.rejected);
}

#[test]
fn a_hole_of_weeks_costs_nothing_and_a_night_is_no_surge() {
    let mut trace = "t,count\n".to_owned();
    for minute in 0..200 {
        trace += &format!("{},600\n", START_MS / 1000 + minute * 60);
    }
    for minute in 0..200 {
        trace += &format!("{},600\n", START_MS / 1000 + 1_000_000_000 + minute * 60);
    }
    let findings = replayed(&policy(""), trace.as_bytes()).unwrap();
    assert_eq!(findings.rules[0].arrivals, 240_000);
    assert!(findings.rules[0].surges.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_replayed_without_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = replayed(&policy(""), &bytes);
    }

    #[test]
    fn any_rows_are_replayed_without_panic(
        header in prop::sample::select(vec!["t,count", "t,key,count", "t,key,duration_s"]),
        rows in vec(("[0-9]{1,4}(\\.[0-9])?|[0-9e]{1,6}", "[ab10.]{0,8}", "[0-9]{1,4}|[-.0-9]{1,5}"), 0..20),
    ) {
        let limited = policy(r#"{"rules": [{"name": "a", "limits": {"inflight": 3, "arrivals_per_s": 9}}]}"#);
        let two = header == "t,count";
        let mut trace = format!("{header}\n");
        for (t, key, number) in rows {
            trace += &if two { format!("{t},{number}\n") } else { format!("{t},{key},{number}\n") };
        }
        if let Some(findings) = replayed(&limited, trace.as_bytes()) {
            let rule = &findings.rules[0];
            prop_assert_eq!(rule.admitted + rule.rejected, rule.arrivals);
            let again = replayed(&limited, trace.as_bytes()).map(|findings| json(&findings));
            prop_assert_eq!(again, Some(json(&findings)));
            text::write(&findings, &limited);
            html::write(&findings, &limited);
        }
    }
}
