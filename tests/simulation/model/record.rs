//! What became of the clients, and the numbers that follow from it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    clients::Role,
    ideal::{self, LAP},
    shapes::Shape,
};

/// Somebody wants to be served; one wish may be several attempts.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub group: usize,
    pub user: u32,
    pub began: Duration,
    /// When it was served, or given up.
    pub ended: Option<Duration>,
    pub served: bool,
}

/// Nobody takes longer for a success.
const LONGEST: Duration = Duration::from_secs(10);
/// So long after the trouble is still looked at how many are served.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Until then users change sides while it is found out how many can be served.
const SETTLING: Duration = Duration::from_secs(3);
/// Normal is: in this second no more than this share goes wrong, and this one of all that come later.
const BAD_SECOND: f64 = 0.1;
const BAD_REST: f64 = 0.02;

/// What came of a run, of the normal clients alone.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Served while the trouble lasts and 10 s longer, in percent of what the best guard could.
    pub goodput_percent: f64,
    /// Of those who came in the trouble and were served; none when nobody was.
    pub p99_ms: Option<f64>,
    /// Users who were refused, timed out or waited for more than 10 s, at last, from the trouble
    /// on; in percent.
    pub failed_users_percent: f64,
    /// Users who were sometimes served in the trouble and sometimes not, in percent; not counted in
    /// its first 3 s, in which it must be noticed and acted upon.
    pub mixed_users_percent: f64,
    /// Seconds after the trouble until all is as before; none when it never is.
    pub recovers_in_s: Option<u32>,
    /// The most that were open at the upstream at once.
    pub peak: usize,
    /// Attempts to connect a second while the trouble lasts, everybody's.
    pub attempts_per_s: f64,
    /// Of the normal clients' attempts in that time, those that failed, in percent.
    pub failed_attempts_percent: f64,
    /// The share that was served before the trouble, in percent.
    pub calm_percent: f64,
}

/// All that happened in a run.
#[derive(Debug, Default)]
pub struct Record {
    pub wishes: Vec<Wish>,
    pub attempts_in_trouble: u32,
    /// Of the normal clients: attempts in the trouble, and those that failed.
    pub normal_attempts: u32,
    pub failed_attempts: u32,
    pub peak: usize,
}

impl Record {
    /// The numbers.
    pub fn numbers(&self, shape: &Shape) -> Numbers {
        let trouble = shape.trouble();
        let normal: Vec<Wish> = self.normal(shape).collect();
        let judged = trouble.start..trouble.end + AFTERMATH;
        let served = normal
            .iter()
            .filter(|wish| wish.served && wish.ended.is_some_and(|ended| judged.contains(&ended)));
        let mut took: Vec<Duration> = normal
            .iter()
            .filter(|wish| wish.served && trouble.contains(&wish.began))
            .filter_map(|wish| Some(wish.ended? - wish.began))
            .collect();
        took.sort_unstable();
        let calm = normal.iter().filter(|wish| wish.began < trouble.start);
        let calm_served = calm.clone().filter(|wish| !is_failure(wish)).count();
        Numbers {
            goodput_percent: percent(served.count() as f64, ideal(&normal, shape)),
            p99_ms: took
                .get((took.len() * 99).div_ceil(100).saturating_sub(1))
                .map(|took| took.as_secs_f64() * 1000.0),
            failed_users_percent: failed_users(&normal, trouble.start),
            mixed_users_percent: mixed_users(&normal, trouble.start + SETTLING..trouble.end),
            recovers_in_s: recovers_in(&normal, shape),
            peak: self.peak,
            attempts_per_s: f64::from(self.attempts_in_trouble)
                / (trouble.end - trouble.start).as_secs_f64(),
            failed_attempts_percent: percent(
                f64::from(self.failed_attempts),
                f64::from(self.normal_attempts),
            ),
            calm_percent: percent(calm_served as f64, calm.count() as f64),
        }
    }

    fn normal<'a>(&'a self, shape: &'a Shape) -> impl Iterator<Item = Wish> + 'a {
        let wishes = self.wishes.iter().copied();
        wishes.filter(|wish| shape.groups[wish.group].role == Role::Normal)
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole.max(1.0)
}

fn is_failure(wish: &Wish) -> bool {
    let in_time = wish
        .ended
        .is_some_and(|ended| ended - wish.began <= LONGEST);
    !(wish.served && in_time)
}

fn ideal(normal: &[Wish], shape: &Shape) -> f64 {
    let trouble = shape.trouble();
    let wanted: Vec<(Duration, Duration)> = normal
        .iter()
        .map(|wish| {
            let persistence = shape.groups[wish.group].persistence();
            (wish.began, wish.began + persistence)
        })
        .collect();
    let capacity = |now: Duration| shape.capacity_per_s(now) * LAP.as_secs_f64();
    ideal::served(&wanted, capacity, trouble.start, trouble.end + AFTERMATH)
}

/// The percentage of the users with any failure, of those who came from then on.
fn failed_users(normal: &[Wish], from: Duration) -> f64 {
    let mut users: BTreeMap<(usize, u32), bool> = BTreeMap::new();
    for wish in normal.iter().filter(|wish| wish.began >= from) {
        *users.entry((wish.group, wish.user)).or_default() |= is_failure(wish);
    }
    let failed = users.values().filter(|failed| **failed).count();
    percent(failed as f64, users.len() as f64)
}

/// The percentage of the users with both successes and failures, of those who came in the span.
fn mixed_users(normal: &[Wish], span: Range<Duration>) -> f64 {
    let mut users: BTreeMap<(usize, u32), (bool, bool)> = BTreeMap::new();
    for wish in normal.iter().filter(|wish| span.contains(&wish.began)) {
        let (served, failed) = users.entry((wish.group, wish.user)).or_default();
        *served |= !is_failure(wish);
        *failed |= is_failure(wish);
    }
    let mixed = users.values().filter(|(served, failed)| *served && *failed);
    percent(mixed.count() as f64, users.len() as f64)
}

/// The first second after the trouble that is normal, as is all that comes after it.
///
/// In a second it goes wrong for those who give up, are served later than one attempt has patience,
/// or have been waiting for longer than that at its end.
fn recovers_in(normal: &[Wish], shape: &Shape) -> Option<u32> {
    let from = shape.trouble().end;
    let seconds = (shape.ends() - from).as_secs() as usize;
    let (mut good, mut bad) = (vec![0_u32; seconds], vec![0_u32; seconds]);
    let second = |at: Duration| (at.checked_sub(from)).map(|since| since.as_secs() as usize);
    for wish in normal {
        let late = wish.began + shape.groups[wish.group].patience;
        let ended = wish.ended.unwrap_or(Duration::MAX);
        if let Some(place) = second(ended)
            && let Some(count) = good.get_mut(place)
            && wish.served
            && ended <= late
        {
            *count += 1;
            continue;
        }
        let first = second(late.min(ended)).unwrap_or(0);
        let last = match second(ended) {
            // It ended before.
            None => continue,
            Some(last) => last,
        };
        if wish.served && ended <= late {
            continue;
        }
        for count in bad.iter_mut().take(last.saturating_add(1)).skip(first) {
            *count += 1;
        }
    }
    let share = |good: u32, bad: u32| f64::from(bad) / f64::from((good + bad).max(1));
    let (mut all_good, mut all_bad, mut first) = (0, 0, None);
    for place in (0..seconds).rev() {
        all_good += good[place];
        all_bad += bad[place];
        if share(all_good, all_bad) > BAD_REST {
            break;
        }
        if share(good[place], bad[place]) <= BAD_SECOND {
            first = u32::try_from(place).ok();
        }
    }
    first
}
