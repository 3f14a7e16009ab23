//! What the workers know together, and what is told of it.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::{
    engine::{
        Answers, DetectorConfig, Lookout, Notice, Phase, Reason, Record, Rejected, Report,
        Sighting, Signal, Standing, Tally, TideRecord, Timestamp,
    },
    store::{MemoryStore, SharedRecord, SharedStore},
};

fn standing(open: u64) -> Standing {
    Standing {
        open,
        ..Standing::default()
    }
}

const KEY: &str = "tidegate/1/test/tide";

/// Workers that share a tide, each with its tick at another moment.
struct Shore {
    store: MemoryStore,
    workers: Vec<Lookout>,
    setting: DetectorConfig,
    open: u64,
    now: Timestamp,
    notices: Vec<(Timestamp, Notice)>,
    surges: u32,
    last: Option<Report>,
}

impl Shore {
    fn new(workers: usize) -> Self {
        Self {
            store: MemoryStore::default(),
            workers: vec![Lookout::default(); workers],
            setting: DetectorConfig::default(),
            open: 0,
            now: Timestamp::from_millis(1_700_000_000_000),
            notices: Vec::new(),
            surges: 0,
            last: None,
        }
    }

    /// `rate` arrivals a second, dealt to the workers in turn, for a while.
    fn run(&mut self, rate: u64, span: Duration) {
        let (mut owed, workers) = (0, self.workers.len() as u64);
        let mut next = 0;
        for ms in 0..span.as_millis() as u64 {
            self.now = self.now.after(Duration::from_millis(1));
            owed += rate;
            while owed >= 1000 {
                owed -= 1000;
                next += 1;
                self.arrive((next % workers) as usize);
            }
            for worker in 0..workers {
                if ms % 100 == worker * 7 {
                    self.tick(worker as usize);
                }
            }
        }
    }

    fn arrive(&mut self, worker: usize) {
        if self.workers[worker].on_arrival() {
            let mut shared = SharedRecord::new(&mut self.store, KEY, self.setting);
            let report = self.workers[worker].hurry(self.now, &mut shared);
            self.book(report.expect("works"));
        }
    }

    fn tick(&mut self, worker: usize) {
        let mut shared = SharedRecord::new(&mut self.store, KEY, self.setting);
        let report = self.workers[worker].on_tick(self.now, standing(self.open), &mut shared);
        if let Some(report) = report.expect("works") {
            self.book(report);
        }
    }

    fn book(&mut self, report: Report) {
        self.surges += report.surges;
        self.notices
            .extend(report.notice.map(|notice| (self.now, notice)));
        self.last = Some(report);
    }

    fn phase(&self) -> Phase {
        self.last.clone().expect("a report").phase
    }
}

#[test]
fn the_workers_learn_one_baseline_from_all_their_arrivals() {
    let mut shore = Shore::new(4);
    shore.run(80, Duration::from_secs(90));
    let baseline = shore.last.clone().expect("a report").baseline_per_s;
    assert!((75.0..85.0).contains(&baseline), "{baseline}");
    assert_eq!(shore.phase(), Phase::Calm);
    assert_eq!(shore.surges, 0);
}

#[test]
fn a_surge_is_told_once_within_a_second_and_so_is_its_end() {
    for workers in [1, 2, 4] {
        let mut shore = Shore::new(workers);
        shore.run(40, Duration::from_secs(90));
        let began = shore.now;
        shore.run(400, Duration::from_secs(10));
        assert_eq!(shore.phase(), Phase::Surge);
        let told: Vec<_> = shore
            .notices
            .iter()
            .filter(|(_, notice)| matches!(notice, Notice::SurgeStarted { .. }))
            .collect();
        assert_eq!(told.len(), 1, "{:?}", shore.notices);
        assert!(told[0].0.since(began) <= Duration::from_secs(1));
        for worker in &mut shore.workers {
            let mut tally = Tally {
                held: 2,
                ..Tally::default()
            };
            tally.rejected[Reason::HotCaller.index()] = 3;
            tally.rejected[Reason::HoldTimeout.index()] = 1;
            worker.on_tally(&tally);
        }
        shore.run(40, Duration::from_secs(15));
        assert_eq!(shore.phase(), Phase::Recovering);
        assert_eq!((shore.surges, shore.notices.len()), (1, 2));
        let Notice::SurgeEnded {
            lasted,
            peak_per_s,
            rejected,
            held,
        } = shore.notices[1].1
        else {
            panic!("{:?}", shore.notices);
        };
        assert!((10..20).contains(&lasted.as_secs()), "{lasted:?}");
        assert!((380.0..420.0).contains(&peak_per_s), "{peak_per_s}");
        let mut expected = Rejected::default();
        expected[Reason::HotCaller.index()] = 3 * workers as u32;
        expected[Reason::HoldTimeout.index()] = workers as u32;
        assert_eq!((rejected, held), (expected, 2 * workers as u64));
    }
}

#[test]
fn one_workers_own_arrivals_are_a_surge_before_its_tick() {
    let mut shore = Shore::new(2);
    shore.run(20, Duration::from_secs(90));
    for _ in 0..200 {
        shore.arrive(0);
    }
    assert_eq!(shore.surges, 1);
    assert_eq!(shore.phase(), Phase::Surge);
}

#[test]
fn what_was_learned_outlives_every_worker() {
    let mut shore = Shore::new(2);
    shore.run(50, Duration::from_secs(90));
    shore.workers = vec![Lookout::default(); 2];
    shore.run(50, Duration::from_secs(1));
    let report = shore.last.clone().expect("a report");
    assert_eq!(report.phase, Phase::Calm);
    assert!((45.0..55.0).contains(&report.baseline_per_s));
}

#[test]
fn open_connections_that_pile_up_are_a_surge_without_more_arrivals() {
    let mut shore = Shore::new(2);
    shore.open = 65;
    shore.run(50, Duration::from_secs(120));
    assert_eq!(shore.phase(), Phase::Calm);
    shore.open = 193;
    shore.run(50, Duration::from_secs(2));
    assert_eq!(shore.phase(), Phase::Surge);
    assert!(
        matches!(
            shore.notices[..],
            [(
                _,
                Notice::SurgeStarted {
                    signal: Signal::Inflight,
                    ..
                }
            )]
        ),
        "{:?}",
        shore.notices
    );
    shore.open = 65;
    shore.run(50, Duration::from_secs(10));
    assert_ne!(shore.phase(), Phase::Surge);
}

#[test]
fn an_upstream_that_refuses_is_told_at_once_and_every_ten_seconds() {
    let mut shore = Shore::new(2);
    shore.run(50, Duration::from_secs(70));
    for _ in 0..25 {
        for worker in &mut shore.workers {
            worker.on_answers(Answers {
                good: 10,
                refused: 15,
                ..Answers::default()
            });
        }
        shore.run(50, Duration::from_secs(1));
        assert!(shore.last.clone().expect("a report").distressed);
    }
    let bad: Vec<u64> = shore
        .notices
        .iter()
        .map(|(_, notice)| match notice {
            Notice::UpstreamRefusing { bad } => *bad,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bad.len(), 3, "{bad:?}");
    assert!(bad.iter().sum::<u64>() > 500, "{bad:?}");
    assert_eq!(shore.phase(), Phase::Calm, "a refusal is not a surge");
}

#[test]
fn an_upstream_that_refuses_on_and_off_is_told_every_ten_seconds_at_most() {
    let mut shore = Shore::new(2);
    shore.run(50, Duration::from_secs(70));
    let mut beginnings = 0;
    for second in 0..64 {
        let before = shore.last.clone().expect("a report").distressed;
        for worker in &mut shore.workers {
            worker.on_answers(Answers {
                good: if second % 8 == 1 { 1000 } else { 0 },
                refused: if second % 8 == 0 { 15 } else { 0 },
                ..Answers::default()
            });
        }
        shore.run(50, Duration::from_secs(1));
        beginnings += usize::from(shore.last.clone().expect("a report").distressed && !before);
    }
    assert!(beginnings > 5, "it ended and began {beginnings} times");
    let told: Vec<_> = shore
        .notices
        .iter()
        .filter(|(_, notice)| matches!(notice, Notice::UpstreamRefusing { .. }))
        .collect();
    assert_eq!(told.len(), 7, "{told:?}");
    for pair in told.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(10));
    }
    let bad = told.iter().map(|(_, notice)| match notice {
        Notice::UpstreamRefusing { bad } => *bad,
        other => panic!("{other:?}"),
    });
    assert_eq!(bad.sum::<u64>(), 8 * 2 * 15, "none is lost: {told:?}");
}

#[test]
fn lines_about_one_rule_are_a_second_apart() {
    let mut shore = Shore::new(2);
    shore.run(20, Duration::from_secs(90));
    for _ in 0..12 {
        shore.run(600, Duration::from_millis(900));
        shore.run(0, Duration::from_secs(9));
    }
    assert!(shore.notices.len() >= 3, "{:?}", shore.notices);
    for pair in shore.notices.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(1));
    }
}

#[test]
fn a_worker_whose_clock_is_a_tick_behind_tells_nothing_early() {
    let setting = DetectorConfig {
        baseline_per_s: Some(20.0),
        ..DetectorConfig::default()
    };
    let at = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
    let saw = |arrivals, refused| Sighting {
        arrivals,
        answers: Answers {
            refused,
            ..Answers::default()
        },
        ..Sighting::default()
    };
    let mut tide = TideRecord::fresh(setting);
    let told = |report: Report| report.notice.is_some();
    assert!(!told(tide.see(&saw(1, 0), Standing::default(), at(4_900))));
    let report = tide.see(&saw(200, 10), Standing::default(), at(5_000));
    assert_eq!((report.surges, told(report)), (1, false));
    // The other worker goes by its last tick: not everybody has said yet whom it saw.
    assert!(!told(tide.hurry(100, at(4_940))));
    assert!(told(tide.see(&saw(20, 10), Standing::default(), at(5_300))));
    // The upstream is next, and not within a second.
    assert!(!told(tide.hurry(100, at(5_240))));
    assert!(!told(tide.see(
        &saw(20, 10),
        Standing::default(),
        at(6_299)
    )));
    assert!(told(tide.see(&saw(20, 10), Standing::default(), at(6_300))));

    // Nobody waits for a clock that was set back.
    let mut tide = TideRecord::fresh(setting);
    tide.see(&saw(1, 0), Standing::default(), at(4_900));
    tide.see(&saw(200, 0), Standing::default(), at(5_000));
    assert!(told(tide.see(&saw(20, 0), Standing::default(), at(0))));
}

#[test]
fn an_idle_worker_leaves_the_record_alone() {
    let mut shore = Shore::new(1);
    shore.run(20, Duration::from_secs(70));
    shore.run(0, Duration::from_secs(200));
    let version = |shore: &Shore| {
        shore
            .store
            .clone()
            .load(KEY)
            .expect("works")
            .expect("is there")
            .1
    };
    let before = version(&shore).0.get();
    shore.run(0, Duration::from_secs(10));
    assert!(version(&shore).0.get() - before <= 11, "once a second");
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..2500)) {
        let _ = TideRecord::decode(&bytes, DetectorConfig::default());
        // Behind the mark of this version, which is checked first.
        let mut ours = Vec::new();
        TideRecord::fresh(DetectorConfig::default()).encode(&mut ours);
        ours.truncate(4);
        ours.extend(bytes);
        let _ = TideRecord::decode(&ours, DetectorConfig::default());
    }

    #[test]
    fn a_record_survives_its_bytes(steps in prop::collection::vec((0_u32..400, 0_u64..400), 0..60)) {
        let setting = DetectorConfig { baseline_per_s: Some(20.0), ..DetectorConfig::default() };
        let mut record = TideRecord::fresh(setting);
        let mut now = Timestamp::from_millis(1_700_000_000_000);
        for (arrivals, gap) in steps {
            now = now.after(Duration::from_millis(gap));
            let sighting = tidegate::engine::Sighting {
                arrivals,
                pressure: arrivals / 4,
                shed: arrivals / 8,
                ..Default::default()
            };
            record.see(&sighting, Standing { waiting: u64::from(arrivals > 100), ..standing(u64::from(arrivals)) }, now);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let read = TideRecord::decode(&bytes, setting).expect("its own bytes");
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(&again, &bytes);
            record = read;
        }
    }
}

#[test]
fn whoever_says_something_else_keeps_a_second_from_what_was_said() {
    let mut tide = TideRecord::fresh(DetectorConfig::default());
    let at = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
    assert!(tide.may_say(at(0)));
    assert!(!tide.may_say(at(999)));
    assert!(tide.may_say(at(1000)));
    assert!(!tide.may_say(at(1500)));
    // A clock that steps far back silences nobody.
    assert!(tide.may_say(Timestamp::from_millis(1)));
}
