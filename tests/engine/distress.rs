//! What is slow and what is silent, by what is usual.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::engine::{Answers, Distress, Patience, Spans, Timestamp, Usual};

const LAP: Duration = Duration::from_millis(100);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An upstream, and the workers' judgement of it by what they have read last.
#[derive(Clone)]
struct Upstream {
    distress: Distress,
    patience: Patience,
    now: Timestamp,
}

impl Upstream {
    fn new() -> Self {
        Self {
            distress: Distress::default(),
            patience: Patience::default(),
            now: Timestamp::from_millis(1_700_000_000_000),
        }
    }

    /// Laps in each of which connections end: their silences and their connects.
    fn run(&mut self, span: Duration, ended: &[(Duration, Duration)]) {
        for _ in 0..span.as_millis() / LAP.as_millis() {
            self.now = self.now.after(LAP);
            let mut answers = Answers::default();
            for (silence, connect) in ended {
                let connect = || Some(*connect);
                answers.add(Answers::of_connection(*silence, connect, self.patience));
            }
            self.distress.tick(answers, self.now);
            self.patience = self.distress.patience();
        }
    }

    /// Ten a lap that take so long to connect.
    fn connects(&mut self, span: Duration, each: u64) {
        self.run(span, &[(Duration::ZERO, ms(each)); 10]);
    }

    fn suffers(&self) -> bool {
        self.distress.is_distressed()
    }
}

#[test]
fn an_upstream_that_connects_far_more_slowly_than_usual_is_in_distress_under_a_second() {
    for (usual, fine, slow) in [
        (1, 150, 250),
        (20, 150, 250),
        (100, 300, 600),
        (200, 700, 1300),
    ] {
        let mut upstream = Upstream::new();
        upstream.connects(Duration::from_secs(120), usual);
        upstream.connects(Duration::from_secs(10), fine);
        assert!(!upstream.suffers(), "{fine} ms after {usual}");
        upstream.connects(Duration::from_secs(1), slow);
        assert!(upstream.suffers(), "{slow} ms after {usual}");
    }
}

#[test]
fn before_anything_is_known_a_second_is_slow() {
    for (connect, suffers) in [(900, false), (1000, true)] {
        let mut upstream = Upstream::new();
        upstream.connects(ms(600), connect);
        assert_eq!(upstream.suffers(), suffers, "{connect} ms");
    }
}

#[test]
fn three_seconds_are_slow_whatever_is_usual() {
    let mut upstream = Upstream::new();
    upstream.connects(Duration::from_secs(120), 950);
    upstream.connects(Duration::from_secs(10), 2_900);
    assert!(!upstream.suffers());
    upstream.connects(Duration::from_secs(1), 3_000);
    assert!(upstream.suffers());
}

#[test]
fn far_endpoints_beside_near_ones_are_usual() {
    let mut upstream = Upstream::new();
    let mut mixed = [(Duration::ZERO, ms(1)); 10];
    mixed[7].1 = ms(320);
    mixed[3].1 = ms(300);
    for _ in 0..600 {
        upstream.run(Duration::from_secs(1), &mixed);
        assert!(!upstream.suffers());
    }
}

#[test]
fn an_upstream_that_slows_down_by_half_a_minute_is_not_usual_within_minutes() {
    let mut upstream = Upstream::new();
    upstream.connects(Duration::from_secs(300), 20);
    let mut took = 20.0;
    let mut seconds = 0;
    while !upstream.suffers() {
        took *= 1.5_f64.powf(1.0 / 60.0);
        seconds += 1;
        upstream.connects(Duration::from_secs(1), took as u64);
        assert!(seconds < 600, "{took} ms are usual");
    }
    assert!(took < 300.0, "told at {took} ms");
    let before = upstream.patience;
    upstream.connects(Duration::from_secs(1_500), 300);
    assert!(upstream.suffers());
    assert_eq!(upstream.patience, before, "distress teaches nothing");
}

#[test]
fn an_upstream_that_was_moved_far_away_is_usual_after_hours() {
    let mut upstream = Upstream::new();
    upstream.connects(Duration::from_secs(300), 1);
    upstream.connects(Duration::from_secs(1_800), 300);
    assert!(upstream.suffers());
    upstream.connects(Duration::from_secs(2 * 3_600), 300);
    assert!(!upstream.suffers(), "{:?}", upstream.patience);
}

#[test]
fn an_upstream_that_falls_silent_suffers_and_one_that_never_spoke_is_left_alone_soon() {
    let mut upstream = Upstream::new();
    upstream.connects(Duration::from_secs(60), 1);
    upstream.run(Duration::from_secs(2), &[(ms(1_100), ms(1)); 3]);
    assert!(upstream.suffers());

    let mut collector = Upstream::new();
    let silent = [(Duration::from_secs(120), ms(1)); 3];
    collector.run(Duration::from_secs(5), &silent);
    assert!(collector.suffers(), "nobody knows better");
    collector.run(Duration::from_secs(400), &silent);
    assert!(!collector.suffers());
    assert_eq!(collector.patience.silence, Duration::MAX);

    // It takes two seconds to answer, and some clients leave before.
    let mut thoughtful = Upstream::new();
    let leaving = [
        (ms(990), ms(1)),
        (ms(2_000), ms(1)),
        (Duration::ZERO, ms(1)),
    ];
    thoughtful.run(Duration::from_secs(400), &leaving);
    assert!(!thoughtful.suffers());
    thoughtful.run(
        Duration::from_secs(3),
        &[(Duration::from_secs(12), ms(1)); 3],
    );
    assert!(thoughtful.suffers());
}

#[test]
fn a_clock_that_is_set_back_neither_forgets_nor_learns_faster() {
    let mut upstream = Upstream::new();
    upstream.connects(Duration::from_secs(300), 100);
    let before = upstream.patience;
    upstream.now = Timestamp::from_millis(5);
    upstream.connects(Duration::from_secs(10), 300);
    let after = upstream.patience.connect.as_secs_f64() / before.connect.as_secs_f64();
    assert!((1.0..1.01).contains(&after), "{after}");
}

/// Spans in ms, some of them beyond all bounds.
fn spans() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0_u64..50, 0_u64..5_000, any::<u64>()], 0..300)
}

proptest! {
    #[test]
    fn nine_of_ten_take_no_longer_than_the_usual_and_it_is_a_step_above_one_of_them(list in spans()) {
        let mut seen = Spans::<32>::default();
        for took in &list {
            seen.add(ms(*took));
        }
        let mut usual = Usual::<32>::default();
        usual.learn(&seen, LAP);
        let Some(level) = usual.times(1.0) else {
            prop_assert!(list.len() < 64);
            return Ok(());
        };
        let within = |span: Duration| list.iter().filter(|took| ms(**took) <= span).count();
        prop_assert!(10 * within(level) >= 9 * list.len());
        // A nanosecond for what is lost in rounding.
        let below = Duration::try_from_secs_f64(level.as_secs_f64() / 2.0_f64.sqrt() - 1e-9);
        if let Ok(below) = below && level > ms(33) && level < Duration::MAX {
            prop_assert!(10 * within(below) < 9 * list.len());
        }
    }

    #[test]
    fn it_is_the_same_whichever_worker_tells_first(lists in prop::collection::vec(spans(), 1..5)) {
        let learned = |lists: &mut dyn Iterator<Item = &Vec<u64>>| {
            let mut all = Answers::default();
            for list in lists {
                for took in list {
                    let took = ms(*took);
                    all.add(Answers::of_connection(took, || Some(took), Patience::default()));
                }
            }
            all
        };
        prop_assert_eq!(learned(&mut lists.iter()), learned(&mut lists.iter().rev()));
    }

    #[test]
    fn patience_keeps_its_bounds_and_moves_slowly_once_it_is_settled(
        start in 0_u64..1_000,
        later in prop::collection::vec((0_u64..5_000, 0_u64..200_000), 0..100),
    ) {
        let mut upstream = Upstream::new();
        upstream.connects(Duration::from_secs(70), start);
        for (took, gap) in later {
            let (before, began) = (upstream.patience.connect, upstream.now);
            upstream.now = upstream.now.after(ms(gap));
            upstream.connects(LAP, took);
            let after = upstream.patience.connect;
            prop_assert!((ms(200)..=ms(3_000)).contains(&after));
            let most = 2.0_f64.powf(upstream.now.since(began).as_secs_f64() / 1_800.0) + 1e-6;
            let moved = after.as_secs_f64() / before.as_secs_f64();
            prop_assert!(moved <= most && moved >= 1.0 / most, "{} of {}", moved, most);
        }
    }

    #[test]
    fn what_always_happens_is_never_distress(kinds in prop::collection::vec(0_u64..700, 10)) {
        let mut upstream = Upstream::new();
        let each: Vec<_> = kinds.iter().map(|took| (Duration::ZERO, ms(*took))).collect();
        for _ in 0..120 {
            upstream.run(Duration::from_secs(1), &each);
            prop_assert!(!upstream.suffers());
        }
    }
}
