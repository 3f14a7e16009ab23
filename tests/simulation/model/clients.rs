//! Those who come.

use std::{ops::Range, time::Duration};

use tidegate::scenario::Random;

/// Who somebody is in the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Is to be served.
    Normal,
    /// Makes the surge.
    Culprit,
}

/// When somebody comes.
#[derive(Clone, Debug)]
pub enum Comes {
    /// By chance, all users of the group together so often a second. From each of these times on it
    /// is that many times as often; in s.
    Often { per_s: f64, pace: Vec<(f64, f64)> },
    /// Each user wants one connection all the time, and comes again when it has none. They come
    /// within `over` of the beginning of the span, and leave at its end; in s.
    Always { during: Range<f64>, over: f64 },
}

/// What a client does when an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// So many attempts are made in all.
    pub attempts: u32,
    /// How long it waits before the second one, give or take a half.
    pub wait: Duration,
    /// How much longer it waits each time, up to 32 times as long in all.
    pub grows: f64,
    /// Whether it comes when it was told to; HTTP only.
    pub obeys: bool,
}

impl Retry {
    const LONGEST: f64 = 32.0;

    /// When to come again, after so many attempts.
    pub fn wait(&self, attempts: u32, random: &mut Random) -> Duration {
        let times = self.grows.powi(attempts as i32 - 1).min(Self::LONGEST);
        jittered(self.wait, random).mul_f64(times)
    }
}

/// Give or take a half.
pub fn jittered(span: Duration, random: &mut Random) -> Duration {
    span.mul_f64(0.5 + random.unit())
}

/// Users who are alike.
#[derive(Clone, Debug)]
pub struct Group {
    pub role: Role,
    pub users: u32,
    /// Their addresses: all have one, or so many users have one each.
    pub users_an_address: u32,
    pub comes: Comes,
    /// How much work one asks for, give or take a tenth.
    pub work: Duration,
    /// How long it stays after the answer, on average, unless it always does.
    pub stay: Duration,
    /// How long it waits for an answer.
    pub patience: Duration,
    pub retry: Retry,
}

impl Group {
    /// After this long nobody of them wants anything any more.
    pub fn persistence(&self) -> Duration {
        let waits = (1..self.retry.attempts.min(20)).map(|attempts| {
            let times = self.retry.grows.powi(attempts as i32 - 1);
            self.retry.wait.mul_f64(times.min(Retry::LONGEST))
        });
        self.patience * self.retry.attempts.min(1000) + waits.sum::<Duration>()
    }

    /// When the next one comes after `now`, by chance.
    pub fn next_after(&self, now: Duration, random: &mut Random) -> Option<Duration> {
        let Comes::Often { per_s, pace } = &self.comes else {
            return None;
        };
        // So many arrivals, on average, are between two.
        let mut left = -(1.0 - random.unit()).ln();
        let mut at = now.as_secs_f64();
        loop {
            let factor = pace.iter().rev().find(|(from, _)| *from <= at);
            let rate = per_s * factor.map_or(1.0, |(_, factor)| *factor);
            let turn = pace.iter().map(|(from, _)| *from).find(|from| *from > at);
            let due = at + left / rate;
            match turn {
                Some(turn) if rate <= 0.0 || due > turn => {
                    left -= (turn - at) * rate;
                    at = turn;
                }
                _ if rate > 0.0 => return Some(Duration::from_secs_f64(due)),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_says_how_many_come() {
        let group = Group {
            role: Role::Normal,
            users: 1,
            users_an_address: 1,
            comes: Comes::Often {
                per_s: 10.0,
                pace: vec![(100.0, 0.0), (200.0, 3.0), (300.0, 0.0)],
            },
            work: Duration::ZERO,
            stay: Duration::ZERO,
            patience: Duration::ZERO,
            retry: Retry {
                attempts: 1,
                wait: Duration::ZERO,
                grows: 1.0,
                obeys: false,
            },
        };
        let mut random = Random::new(1);
        let next = |at: &Duration| group.next_after(*at, &mut random);
        let all: Vec<f64> = std::iter::successors(Some(Duration::ZERO), next)
            .skip(1)
            .map(|at| at.as_secs_f64())
            .collect();
        let within = |from, until| all.iter().filter(|at| (from..until).contains(*at)).count();
        assert!((900..1100).contains(&within(0.0, 100.0)));
        assert_eq!(within(100.0, 200.0), 0);
        assert!((2800..3200).contains(&within(200.0, 300.0)));
        assert_eq!(within(300.0, f64::INFINITY), 0);
    }
}
