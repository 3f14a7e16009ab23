//! What the verdicts compute, and how they write it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    events::Caller,
    load::{Attempt, Failure},
    run::Report,
    view::{NORMAL_PERCENT, Phase, Second, Served},
};

/// How many of some attempts were served.
pub fn served<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Served {
    let mut served = Served::default();
    attempts.for_each(|attempt| served.count(attempt.result.is_ok()));
    served
}

/// Median and 99th percentile of the attempts that were done.
pub fn latency<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Option<(Duration, Duration)> {
    let done = attempts.filter(|attempt| attempt.result.is_ok());
    let mut took: Vec<Duration> = done.map(|attempt| attempt.took).collect();
    took.sort_unstable();
    Some((percentile(&took, 50)?, percentile(&took, 99)?))
}

/// The smallest value that so many per cent of the sorted values do not exceed; none of none.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// The second after the surge (the first is 1) from which on those in some columns together were
/// served as is normal; none when they were not at the end.
pub fn recovered(seconds: &[Second], columns: &[usize]) -> Option<usize> {
    let after: Vec<bool> = seconds
        .iter()
        .filter(|second| second.phase == Phase::After)
        .map(|second| {
            let served = columns
                .iter()
                .filter_map(|column| second.served.get(*column));
            served.copied().sum::<Served>().percent() >= Some(NORMAL_PERCENT)
        })
        .collect();
    let good = after.iter().rev().take_while(|good| **good).count();
    (good > 0).then(|| after.len() - good + 1)
}

/// Who was named for the surge, and how long after it began.
pub fn named(report: &Report) -> Option<(Duration, Caller)> {
    report.events.iter().find_map(|event| {
        if event.name() != "surge_started" {
            return None;
        }
        let after = event.at.duration_since(report.surge_at);
        Some((Duration::try_from(after).ok()?, event.first_caller()?))
    })
}

/// The seconds after which somebody was named.
pub fn named_after(report: &Report) -> String {
    or_dash(named(report).map(|(after, _)| format!("{:.1}", after.as_secs_f64())))
}

/// Attempts through Envoy in a second of the surge.
pub fn offered_per_s(seconds: &[Second]) -> u64 {
    let surge = seconds.iter().filter(|second| second.phase == Phase::Surge);
    let offered: u64 = surge.clone().map(|second| second.offered).sum();
    offered / (surge.count() as u64).max(1)
}

/// What most of the refused clients were told.
pub fn told<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Option<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for attempt in attempts {
        if let Err(Failure::Refused(text)) = &attempt.result {
            *counts.entry(text).or_default() += 1;
        }
    }
    let (text, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    Some(text.to_owned())
}

/// One line of a table of both runs.
pub fn row(name: &str, without: &str, with: &str) -> String {
    format!("{name:<50}{without:>16}{with:>16}")
}

/// A number that there may not be.
pub fn or_dash(number: Option<impl ToString>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

/// The second in which something became normal.
pub fn in_second(second: Option<usize>) -> String {
    second.map_or("not seen".to_owned(), |second| second.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::samples::{ms, second};

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<Duration> = (1..=200).map(ms).collect();
        assert_eq!(percentile(&values, 50), Some(ms(100)));
        assert_eq!(percentile(&values, 99), Some(ms(198)));
        assert_eq!(percentile(&values[..1], 99), Some(ms(1)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn it_is_normal_again_only_when_it_stays_so() {
        let run = |after: &[(usize, usize)]| -> Vec<Second> {
            let surge = [second(Phase::Surge, &[(20, 20)])];
            let after = after.iter().map(|one| second(Phase::After, &[*one]));
            surge.into_iter().chain(after).collect()
        };
        let one = |after: &[(usize, usize)]| recovered(&run(after), &[0]);
        assert_eq!(one(&[(20, 20), (19, 20)]), Some(1));
        assert_eq!(one(&[(20, 20), (18, 20), (20, 20)]), Some(3));
        assert_eq!(one(&[(20, 20), (0, 20)]), None);
        assert_eq!(one(&[(0, 0)]), None, "silence is not normal");
    }

    #[test]
    fn several_kinds_of_clients_are_normal_together() {
        let run = [
            second(Phase::After, &[(0, 1), (99, 99), (0, 10)]),
            second(Phase::After, &[(1, 1), (90, 99), (10, 10)]),
        ];
        assert_eq!(recovered(&run[..1], &[0, 1]), Some(1));
        assert_eq!(recovered(&run[..1], &[0, 2]), None);
        assert_eq!(recovered(&run, &[0, 1]), None);
        assert_eq!(recovered(&run, &[0, 2]), Some(2));
    }

    #[test]
    fn only_seconds_of_the_surge_count_for_its_attempts() {
        let mut busy = second(Phase::Surge, &[]);
        busy.offered = 300;
        let seconds = [second(Phase::Calm, &[]), second(Phase::Surge, &[]), busy];
        assert_eq!(offered_per_s(&seconds), 200);
        assert_eq!(offered_per_s(&seconds[..1]), 0);
    }
}
