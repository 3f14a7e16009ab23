//! What became of the clients, and the numbers that follow from it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

/// Who somebody is in the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Comes as always.
    Normal,
    /// Comes as always, from the address that the culprit has, too.
    Beside,
    /// Makes the surge.
    Culprit,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered.
    Served,
    /// There was an end, or a word of refusal, instead of an answer.
    Refused,
    /// There was neither while the client had patience.
    TimedOut,
}

/// One attempt to be served.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    group: Group,
    who: u32,
    /// When it began, since the beginning of the run.
    at: Duration,
    /// Until the first byte of the answer, or until it was given up.
    took: Duration,
    /// None while it is under way.
    outcome: Option<Outcome>,
}

/// All that happened in a run.
#[derive(Debug, Default)]
pub struct Record {
    attempts: Vec<Attempt>,
    tries: Vec<Duration>,
}

/// Normal is: so many are served, and no more than one in a hundred takes so much longer than it
/// must.
const NORMAL_SHARE: f64 = 0.95;
const NORMAL_P99: Duration = Duration::from_millis(110);

impl Record {
    /// An attempt begins; the number is its name.
    pub fn begin(&mut self, group: Group, who: u32, at: Duration) -> usize {
        self.attempts.push(Attempt {
            group,
            who,
            at,
            took: Duration::ZERO,
            outcome: None,
        });
        self.attempts.len() - 1
    }

    /// An attempt ends at that time.
    pub fn end(&mut self, attempt: usize, outcome: Outcome, now: Duration) {
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            attempt.took = now.saturating_sub(attempt.at);
            attempt.outcome = Some(outcome);
        }
    }

    /// Somebody connects; one attempt may be several of these.
    pub fn connects(&mut self, at: Duration) {
        self.tries.push(at);
    }

    /// How often somebody connected.
    pub fn tries(&self, span: &Range<Duration>) -> usize {
        self.tries.iter().filter(|at| span.contains(at)).count()
    }

    /// What began in the span and has ended.
    pub fn tally(&self, groups: &[Group], span: &Range<Duration>) -> Tally {
        let mut tally = Tally::default();
        for attempt in &self.attempts {
            if !groups.contains(&attempt.group) || !span.contains(&attempt.at) {
                continue;
            }
            match attempt.outcome {
                Some(Outcome::Served) => tally.served.push(attempt.took),
                Some(Outcome::Refused) => tally.refused += 1,
                Some(Outcome::TimedOut) => tally.timed_out += 1,
                None => {}
            }
        }
        tally.served.sort_unstable();
        tally
    }

    /// How many answers came in each whole second of the span.
    pub fn served_by_second(&self, groups: &[Group], span: &Range<Duration>) -> Vec<u32> {
        let seconds = span.end.saturating_sub(span.start).as_secs();
        let mut counts = vec![0; usize::try_from(seconds).unwrap_or(0)];
        for attempt in &self.attempts {
            let answered = attempt.at + attempt.took;
            if groups.contains(&attempt.group)
                && attempt.outcome == Some(Outcome::Served)
                && let Some(second) = answered.checked_sub(span.start)
                && let Ok(second) = usize::try_from(second.as_secs())
                && let Some(count) = counts.get_mut(second)
            {
                *count += 1;
            }
        }
        counts
    }

    /// The first whole second of the span that is normal, as is all that comes after it; 0 when
    /// it was never otherwise. What is served takes so long at best.
    pub fn normal_again(
        &self,
        groups: &[Group],
        span: &Range<Duration>,
        at_best: Duration,
    ) -> Option<u32> {
        let seconds = u32::try_from((span.end - span.start).as_secs()).unwrap_or(0);
        (0..seconds).find(|second| {
            let from = span.start + Duration::from_secs(u64::from(*second));
            let this = self.tally(groups, &(from..from + Duration::from_secs(1)));
            let rest = self.tally(groups, &(from..span.end));
            this.is_mostly_served() && rest.is_normal(at_best)
        })
    }

    /// Of those who came in the span: the share that was sometimes served and sometimes not, the
    /// share that always was, and the share that never was.
    pub fn fates(&self, groups: &[Group], span: &Range<Duration>) -> Fates {
        let mut users: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
        for attempt in &self.attempts {
            if !groups.contains(&attempt.group) || !span.contains(&attempt.at) {
                continue;
            }
            if let Some(outcome) = attempt.outcome {
                let (served, failed) = users.entry(attempt.who).or_default();
                *served |= outcome == Outcome::Served;
                *failed |= outcome != Outcome::Served;
            }
        }
        let share = |which: fn(&(bool, bool)) -> bool| {
            let count = users.values().filter(|user| which(user)).count();
            ratio(count as f64, users.len() as f64)
        };
        Fates {
            mixed: share(|(served, failed)| *served && *failed),
            always: share(|(_, failed)| !failed),
            never: share(|(served, _)| !served),
        }
    }
}

/// What users met, as shares of all of them; not a number when there was nobody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fates {
    pub mixed: f64,
    pub always: f64,
    pub never: f64,
}

/// Attempts by their outcome.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How long each took that was served, ascending.
    pub served: Vec<Duration>,
    pub refused: usize,
    pub timed_out: usize,
}

impl Tally {
    /// All of them.
    pub fn all(&self) -> usize {
        self.served.len() + self.refused + self.timed_out
    }

    /// The share that was served; not a number when there was nobody.
    pub fn share(&self) -> f64 {
        ratio(self.served.len() as f64, self.all() as f64)
    }

    /// The time in which that part of those was served who were; by nearest rank.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = (part * self.served.len() as f64).ceil().max(1.0) as usize;
        self.served.get(rank - 1).copied()
    }

    fn is_mostly_served(&self) -> bool {
        self.share() >= NORMAL_SHARE
    }

    fn is_normal(&self, at_best: Duration) -> bool {
        let p99 = self.quantile(0.99);
        self.is_mostly_served() && p99.is_some_and(|p99| p99 <= at_best + NORMAL_P99)
    }
}

/// A quotient; not a number instead of an infinite one.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { f64::NAN } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A record of (who, began at ms, took ms, outcome).
    fn record(attempts: &[(u32, u32, u32, Outcome)]) -> Record {
        let mut record = Record::default();
        for &(who, at, took, outcome) in attempts {
            let attempt = record.begin(Group::Normal, who, at * MS);
            record.end(attempt, outcome, (at + took) * MS);
        }
        record
    }

    use Outcome::{Refused, Served, TimedOut};

    #[test]
    fn a_tally_counts_what_began_in_the_span_and_has_ended() {
        let mut record = record(&[
            (0, 999, 1, Served),
            (0, 1000, 30, Served),
            (1, 1500, 10, Served),
            (2, 1600, 0, Refused),
            (3, 1999, 2000, TimedOut),
            (3, 2000, 1, Served),
        ]);
        record.begin(Group::Normal, 4, 1200 * MS);
        record.begin(Group::Culprit, 5, 1200 * MS);
        let tally = record.tally(&[Group::Normal], &(1000 * MS..2000 * MS));
        assert_eq!(tally.served, [10 * MS, 30 * MS]);
        assert_eq!((tally.refused, tally.timed_out), (1, 1));
        assert_eq!(tally.share(), 0.5);
    }

    #[test]
    fn a_quantile_is_one_of_the_measured_values() {
        let tally = |count: u32| Tally {
            served: (1..=count).map(|ms| ms * MS).collect(),
            ..Tally::default()
        };
        assert_eq!(tally(0).quantile(0.99), None);
        assert_eq!(tally(1).quantile(0.5), Some(MS));
        assert_eq!(tally(100).quantile(0.5), Some(50 * MS));
        assert_eq!(tally(100).quantile(0.99), Some(99 * MS));
        assert_eq!(tally(200).quantile(1.0), Some(200 * MS));
    }

    #[test]
    fn an_answer_counts_in_the_second_in_which_it_came() {
        let record = record(&[
            (0, 900, 200, Served),
            (0, 1900, 300, Served),
            (0, 2900, 200, Served),
            (0, 1000, 0, Refused),
        ]);
        let span = 1000 * MS..3000 * MS;
        assert_eq!(record.served_by_second(&[Group::Normal], &span), [1, 1]);
    }

    #[test]
    fn it_is_normal_again_when_it_stays_so() {
        let span = Duration::ZERO..4000 * MS;
        let again =
            |attempts: &[_]| record(attempts).normal_again(&[Group::Normal], &span, Duration::ZERO);
        let good = [
            (0, 0, 5, Served),
            (0, 1000, 5, Served),
            (0, 3000, 5, Served),
        ];
        // There is nobody in second 2, which is not normal by itself; 0 holds all the same.
        assert_eq!(again(&good), Some(0));
        assert_eq!(
            again(&[(0, 500, 0, Refused), (0, 1500, 5, Served)]),
            Some(1)
        );
        let late = [(0, 500, 5, Served), (0, 3500, 0, Refused)];
        assert_eq!(again(&late), None);
        let slow = [(0, 500, 400, Served), (0, 3500, 5, Served)];
        assert_eq!(again(&slow), Some(3));
        assert_eq!(again(&[]), None);
    }

    #[test]
    fn users_are_served_always_never_or_sometimes() {
        let record = record(&[
            (0, 0, 1, Served),
            (0, 9, 1, Served),
            (1, 0, 1, Served),
            (1, 9, 1, TimedOut),
            (2, 0, 1, Refused),
            (3, 0, 1, Refused),
        ]);
        let fates = record.fates(&[Group::Normal], &(Duration::ZERO..10 * MS));
        assert_eq!((fates.mixed, fates.always, fates.never), (0.25, 0.25, 0.5));
    }
}
