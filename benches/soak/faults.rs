//! What goes wrong when: drawn from a seed, before it begins.

use std::{fmt, time::Duration};

use tidegate::scenario::Random;

use crate::hostile::stand::Door;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its connections are reset, and it accepts nobody.
    Killed(Door),
    /// It accepts nobody.
    Refuses(Door),
    /// It takes its time.
    Slow(Door),
    /// It accepts, and answers nobody.
    Hangs(Door),
    /// One caller wants all.
    OneCaller(Door),
    /// Many come, and leave while they are held or served.
    Aborts(Door),
    /// Each comes as often again, and again.
    Everybody,
    /// So do hostile clients.
    Hostile,
    /// The configuration of all is replaced.
    Replaced,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, door) = match self {
            Self::Killed(door) => ("upstream killed", Some(door)),
            Self::Refuses(door) => ("upstream refuses", Some(door)),
            Self::Slow(door) => ("upstream slow", Some(door)),
            Self::Hangs(door) => ("upstream hangs", Some(door)),
            Self::OneCaller(door) => ("a surge of one caller", Some(door)),
            Self::Aborts(door) => ("clients leave", Some(door)),
            Self::Everybody => ("a surge of everybody", None),
            Self::Hostile => ("hostile clients", None),
            Self::Replaced => ("configuration replaced", None),
        };
        match door {
            Some(door) => write!(f, "{what}: {}", door.rule()),
            None => f.write_str(what),
        }
    }
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    pub at: Duration,
    pub ends: Duration,
    pub fault: Fault,
}

/// Nothing goes wrong before this.
const CALM: Duration = Duration::from_secs(5);
/// Nothing goes wrong in the last moments, so that the last look is one at calm.
const LAST: Duration = Duration::from_secs(5);

/// All that goes wrong in a run, in the order of its beginning: something new every 2 to 5 s, for 2
/// to 8 s; each kind comes before any comes again.
pub fn plan(seed: u64, lasts: Duration) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let (mut planned, mut kinds) = (Vec::new(), Vec::new());
    let mut at = CALM;
    while at + LAST < lasts {
        if kinds.is_empty() {
            kinds = shuffled(&mut random);
        }
        let door = Door::ALL[random.below(4) as usize];
        let make: fn(Door) -> Fault = kinds.pop().expect("they were just drawn");
        let ends = (at + seconds(&mut random, 2.0, 8.0)).min(lasts.saturating_sub(LAST));
        let fault = make(door);
        planned.push(Planned { at, ends, fault });
        at += seconds(&mut random, 2.0, 5.0);
    }
    planned
}

/// Every kind once, in any order.
fn shuffled(random: &mut Random) -> Vec<fn(Door) -> Fault> {
    let mut kinds: Vec<fn(Door) -> Fault> = vec![
        Fault::Killed,
        Fault::Refuses,
        Fault::Slow,
        Fault::Hangs,
        Fault::OneCaller,
        Fault::Aborts,
        |_| Fault::Everybody,
        |_| Fault::Hostile,
        |_| Fault::Replaced,
    ];
    for last in (1..kinds.len()).rev() {
        kinds.swap(last, random.below(last as u64 + 1) as usize);
    }
    kinds
}

fn seconds(random: &mut Random, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least + (most - least) * random.unit())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, mem::discriminant};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        let minute = Duration::from_secs(60);
        assert_eq!(plan(1, minute), plan(1, minute));
        assert_ne!(plan(1, minute), plan(2, minute));
        // A longer run begins alike.
        let longer = plan(1, minute * 10);
        assert_eq!(plan(1, minute)[..5], longer[..5]);
    }

    #[test]
    fn each_kind_comes_in_a_minute_and_none_in_the_first_or_last_moments() {
        let lasts = Duration::from_secs(60);
        for seed in 0..50 {
            let planned = plan(seed, lasts);
            let kinds = planned
                .iter()
                .map(|one| format!("{:?}", discriminant(&one.fault)));
            assert_eq!(kinds.collect::<BTreeSet<_>>().len(), 9, "{planned:?}");
            for one in planned {
                assert!(one.at >= CALM && one.at <= one.ends && one.ends <= lasts - LAST);
            }
        }
        assert!(plan(1, Duration::from_secs(3)).is_empty());
    }
}
