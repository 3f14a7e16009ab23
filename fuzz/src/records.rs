//! What workers share: any bytes are a record or are replaced, and a record can be worked with.

use std::{num::NonZeroU32, sync::OnceLock, time::Duration};

use tidegate::{
    engine::{
        Alarm, Answers, Callers, Detector, DetectorConfig, Limits, MAX_HOT, MAX_WORKERS,
        PoolRecord, Reason, Record, Row, Seen, Sentry, Sighting, Standing, StreamId, Terms,
        TideRecord, Timestamp, Upstream, Who, WorkerId,
    },
    store::{MemoryStore, PREFIX, RuleKeys, RuleRecords, SharedRecord, SharedStore},
};

/// Where the record is.
const KEY: &str = "record";

/// The first byte says which record it is and what the bytes behind the next eight are: the record, or
/// changes of one that workers wrote. The eight say what time it is.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    let Some((now, rest)) = rest.split_first_chunk() else {
        return;
    };
    let now = Timestamp::from_nanos(u64::from_le_bytes(*now));
    let kind_of = usize::from(kind % 5);
    let bytes = if kind < 128 {
        rest.to_vec()
    } else {
        changed(&genuine()[kind_of], rest)
    };
    let bytes = &bytes[..];
    let setting = DetectorConfig::default();
    match kind_of {
        0 => {
            is_taken_or_replaced::<PoolRecord>(bytes, ());
            if let Ok(pool) = PoolRecord::decode(bytes) {
                work_with_pool(pool, now);
            }
        }
        1 => {
            is_taken_or_replaced::<TideRecord>(bytes, setting);
            if let Some(tide) = TideRecord::decode(bytes, setting) {
                work_with_tide(tide, now);
            }
        }
        2 => {
            is_stable(bytes, |bytes| Callers::decode(bytes).ok(), Callers::encode);
            if let Ok(callers) = Callers::decode(bytes) {
                work_with_callers(callers, now);
            }
        }
        3 => {
            let decode = |bytes: &[u8]| Detector::decode(bytes, setting).ok();
            is_stable(bytes, decode, Detector::encode);
            if let Some(mut detector) = decode(bytes) {
                detector.tick(7, now, Upstream::AtEase);
                detector.notice(u32::MAX, now);
                detector.tick(u32::MAX, now, Upstream::AtEase);
                assert!(detector.rate_per_s().is_finite() && detector.baseline_per_s().is_finite());
            }
        }
        _ => {
            let decode = |bytes: &[u8]| Alarm::decode(bytes, setting).ok();
            is_stable(bytes, decode, Alarm::encode);
            if let Some(mut alarm) = decode(bytes) {
                let (arrivals, open) = (u32::MAX, u32::MAX);
                alarm.tick(
                    Seen {
                        arrivals,
                        open,
                        answers: bad(),
                        saturated: true,
                    },
                    now,
                );
                alarm.notice(u32::MAX, now);
            }
        }
    }
}

/// A record with other bytes: pairs of a place and what stands there.
fn changed(record: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    let (changes, _) = changes.as_chunks::<3>();
    for [low, high, byte] in changes.iter().take(64) {
        let place = usize::from(u16::from_le_bytes([*low, *high]));
        match bytes.get_mut(place) {
            Some(old) => *old = *byte,
            None => bytes.truncate(bytes.len().saturating_sub(place % 97)),
        }
    }
    bytes
}

/// The records of a rule whose two workers have seen a surge of many callers.
fn genuine() -> &'static [Vec<u8>; 5] {
    static RECORDS: OnceLock<[Vec<u8>; 5]> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let setting = DetectorConfig {
            baseline_per_s: Some(5.0),
            ..DetectorConfig::default()
        };
        let (mut store, keys) = (MemoryStore::default(), RuleKeys::new("db"));
        let mut now = Timestamp::from_millis(1_700_000_000_000);
        let limits = Limits {
            inflight: NonZeroU32::new(20),
            arrivals_per_s: NonZeroU32::new(90),
            connecting: None,
        };
        let terms = Terms {
            limits,
            ..Terms::default()
        };
        let mut workers = [1, 2].map(|id| {
            let id = WorkerId(NonZeroU32::MIN.saturating_add(id));
            let mut sentry = Sentry::new(id, [1, 2], now);
            sentry.configure(20, true);
            sentry
        });
        for lap in 0_u32..40 {
            now = now.after(Duration::from_millis(100));
            for (sentry, first) in workers.iter_mut().zip([0, 1000]) {
                let mut records = RuleRecords::new(&mut store, &keys, setting);
                for nth in 0..lap % 7 * 3 {
                    let key = (nth % 5).to_le_bytes();
                    let who = Who {
                        caller: Some((&key, 1)),
                        ..Who::default()
                    };
                    let id = StreamId(first + lap * 20 + nth);
                    let (_, place, _) = sentry.on_arrival(id, &terms, who, now, &mut records);
                    if nth % 3 > 0 {
                        sentry.on_close(id, place);
                    }
                }
                sentry.serve(now, &mut records, &mut Vec::new());
                sentry.tell(now, &mut records).1.expect("a store in memory");
            }
        }
        let mut value = |what: &str| {
            let value = store
                .load(&format!("{PREFIX}/db/{what}"))
                .expect("a store in memory");
            value.expect("a record").0
        };
        let (pool, tide, callers) = (value("pool"), value("tide"), value("callers/2"));
        let known = TideRecord::decode(&tide, setting).expect("a record");
        let (mut detector, mut alarm) = (Vec::new(), Vec::new());
        known.alarm().detector.encode(&mut detector);
        known.alarm().encode(&mut alarm);
        // The time when it was put there stands before it.
        let callers = callers[8..].to_vec();
        [pool, tide, callers, detector, alarm]
    })
}

/// What decodes is written as something that decodes to the same.
fn is_stable<R>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<R>,
    encode: impl Fn(&R, &mut Vec<u8>),
) {
    let Some(record) = decode(bytes) else { return };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    encode(&record, &mut once);
    let again = decode(&once).expect("what was written is a record");
    encode(&again, &mut twice);
    assert_eq!(once, twice);
}

/// In a store: a record stays, and what is none is begun anew, which is said.
fn is_taken_or_replaced<R: Record>(bytes: &[u8], setting: R::Setting) {
    is_stable(bytes, |bytes| R::decode(bytes, setting), R::encode);
    let mut store = MemoryStore::default();
    store
        .compare_and_set(KEY, bytes, None)
        .expect("a store in memory");
    let mut shared = SharedRecord::<_, R>::new(&mut store, KEY, setting);
    shared.begin().expect("a store in memory");
    let known = R::decode(bytes, setting).is_some();
    assert_eq!(shared.replaced(), !known);
    let mut fresh = Vec::new();
    R::fresh(setting).encode(&mut fresh);
    let (value, _) = store
        .load(KEY)
        .expect("a store in memory")
        .expect("a value");
    assert_eq!(value, if known { bytes } else { &fresh });
}

fn work_with_pool(mut pool: PoolRecord, now: Timestamp) {
    let me = WorkerId(NonZeroU32::MIN);
    let (all, others) = (pool.totals(), pool.others(me));
    assert!(others.open <= all.open && others.held <= all.held);
    pool.arrivals.at_most(now);
    pool.arrivals.add(now, u32::MAX);
    pool.reap(me, now);
    let mut row = Row::idle(me, now.as_millis());
    (row.open, row.leased) = (3, u32::MAX);
    let full = pool.rows().len() >= MAX_WORKERS;
    let known = pool.rows().iter().any(|row| row.worker == me);
    assert_eq!(pool.set_row(row).is_ok(), known || !full);
    is_stable(
        &encoded(&pool),
        |bytes| PoolRecord::decode(bytes).ok(),
        PoolRecord::encode,
    );
}

fn work_with_tide(mut tide: TideRecord, now: Timestamp) {
    let setting = DetectorConfig::default();
    let sighting = Sighting {
        arrivals: u32::MAX,
        rejected: [u32::MAX; Reason::ALL.len()],
        held: u32::MAX,
        pressure: 1,
        shed: 1,
        answers: bad(),
    };
    let standing = Standing {
        open: u64::MAX,
        waiting: u64::MAX,
        limit: u32::MAX,
        adaptive: true,
    };
    let later = now.after(Duration::from_millis(250));
    for report in [
        tide.see(&Sighting::default(), Standing::default(), now),
        tide.see(&sighting, standing, later),
        tide.hurry(u32::MAX, later),
        tide.see(&sighting, standing, now),
    ] {
        assert!((0.02..=1.0).contains(&report.share), "{}", report.share);
        assert!(
            (0.1..=1.0).contains(&report.limit_part),
            "{}",
            report.limit_part
        );
        assert!(report.rate_per_s.is_finite() && report.baseline_per_s.is_finite());
        assert!(report.cuts.len() <= MAX_HOT);
        assert!((1..=100).contains(&report.limit_in_force(100)));
    }
    tide.may_say(later);
    is_stable(
        &encoded(&tide),
        |bytes| TideRecord::decode(bytes, setting),
        TideRecord::encode,
    );
}

fn work_with_callers(mut callers: Callers, now: Timestamp) {
    let mut own = Callers::new([1, 2]);
    own.arrive(b"a");
    let _ = own.merge(&callers);
    for key in [&b"a"[..], b"", &[0xff; 300]] {
        let id = callers.arrive_for(key, u32::MAX);
        callers.passed(id, u32::MAX);
    }
    callers.tick(now, true);
    callers.tick(now.after(Duration::from_secs(30)), false);
    assert!(callers.hot().len() <= MAX_HOT);
    callers.spread();
    let told = callers.by_excess();
    assert!(
        told.iter()
            .all(|caller| (0.0..=1.0).contains(&caller.share))
    );
    let mut bytes = Vec::new();
    callers.encode(&mut bytes);
    assert!(bytes.len() <= 40 << 10);
    is_stable(&bytes, |bytes| Callers::decode(bytes).ok(), Callers::encode);
}

/// Everything that can be wrong with an upstream, as often as can be counted.
fn bad() -> Answers {
    let mut answers = Answers {
        good: 0,
        refused: u32::MAX,
        failed: u32::MAX,
        silent: u32::MAX,
        ..Answers::default()
    };
    answers.add(answers);
    answers
}

fn encoded(record: &impl Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}
