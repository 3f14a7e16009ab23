//! What came of both runs, in numbers and in plain words.

use std::{collections::BTreeMap, time::Duration};

use super::{
    LIMIT, MAX_WAIT,
    cast::MAX_CONNECTIONS,
    load::{Attempt, Failure, Who},
    run::Report,
    view::{Colour, Paint, Phase, Second, share},
};

/// The part of the normal clients that must get through for a second to count as normal.
const NORMAL_PERCENT: usize = 95;

/// The numbers of one run.
struct Numbers {
    /// Attempts through Envoy in a second of the surge.
    attempts_per_s: u64,
    /// Transactions done in a second of the surge, by everybody.
    done_per_s: u64,
    /// The normal clients in the surge: done, and tried.
    normal: (usize, usize),
    /// How long those took that were done: the median and the 99th percentile.
    latency: Option<(Duration, Duration)>,
    /// The same in the calm before.
    calm_latency: Option<(Duration, Duration)>,
    /// The second after the surge from which on everything was normal.
    recovered: Option<usize>,
    /// The operator's connections in the surge: done, and tried.
    operator: (usize, usize),
    /// What most of the refused clients were told.
    told: Option<String>,
}

impl Numbers {
    /// From what was noted.
    fn of(report: &Report) -> Self {
        let in_surge: Vec<&Attempt> = report
            .attempts
            .iter()
            .filter(|attempt| report.surge.contains(&attempt.began))
            .collect();
        let of = |who: Who| in_surge.iter().copied().filter(move |a| a.who == who);
        let outcome = |who: Who| {
            let done = of(who).filter(|a| a.result.is_ok()).count();
            (done, of(who).count())
        };
        let calm = report.attempts.iter().filter(|attempt| {
            attempt.who == Who::Normal && attempt.began + attempt.took <= report.surge.start
        });
        let seconds = (report.surge.end - report.surge.start).as_secs().max(1);
        let offered = report.seconds.iter();
        let offered: u64 = offered
            .filter(|second| second.phase == Phase::Surge)
            .map(|second| second.offered)
            .sum();
        let done = outcome(Who::Normal).0 + outcome(Who::Surge).0;
        Self {
            attempts_per_s: offered / seconds,
            done_per_s: done as u64 / seconds,
            normal: outcome(Who::Normal),
            latency: latency(of(Who::Normal)),
            calm_latency: latency(calm),
            recovered: recovered(&report.seconds),
            operator: outcome(Who::Operator),
            told: most_common(in_surge.iter().filter_map(|a| match &a.result {
                Err(Failure::Refused(text)) => Some(text.as_str()),
                _ => None,
            })),
        }
    }
}

/// Median and 99th percentile of the attempts that were done.
fn latency<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Option<(Duration, Duration)> {
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

/// The second after the surge (the first is 1) from which on the normal clients were served;
/// none when they were not at the end.
fn recovered(seconds: &[Second]) -> Option<usize> {
    let after: Vec<bool> = seconds
        .iter()
        .filter(|second| second.phase == Phase::After)
        .map(|second| share(second.normal_done, second.normal_ended) >= Some(NORMAL_PERCENT))
        .collect();
    let good = after.iter().rev().take_while(|good| **good).count();
    (good > 0).then(|| after.len() - good + 1)
}

/// The text that occurs most often.
fn most_common<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let (text, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    Some(text.to_owned())
}

/// The table, what it says, and whether the guard held.
pub fn text(paint: Paint, without: &Report, with: &Report) -> String {
    let numbers = (Numbers::of(without), Numbers::of(with));
    let mut lines = vec![paint.paint(Colour::Bold, &row("Verdict", "without", "with tidegate"))];
    lines.extend(table(&numbers, without, with));
    lines.push(String::new());
    lines.push("A refused client reads".to_owned());
    for (name, numbers) in [("without:", &numbers.0), ("with:", &numbers.1)] {
        let told = numbers.told.as_deref().unwrap_or("(nobody was refused)");
        lines.push(format!("  {name:<9}{told}"));
    }
    lines.push(String::new());
    for (colour, sign, text) in findings(&numbers, without, with) {
        lines.push(format!("{} {text}", paint.paint(colour, sign)));
    }
    lines.push(String::new());
    lines.push(if with.guard_held() {
        let text = format!(
            "The guard held: {} looks, never more than {LIMIT} connections, and nothing left open \
             at the end.",
            with.looks
        );
        paint.paint(Colour::Green, &text)
    } else {
        let (inflight, upstream) = with.left.unwrap_or_default();
        let text = format!(
            "The guard did NOT hold: {} connections at a limit of {LIMIT}; at the end tidegate \
             counts {inflight} and Envoy {upstream} open.",
            with.peak_upstream
        );
        paint.paint(Colour::Red, &text)
    });
    lines.join("\n")
}

/// One line of the table.
fn row(name: &str, without: &str, with: &str) -> String {
    format!("{name:<50}{without:>16}{with:>16}")
}

/// The lines of the table.
fn table(numbers: &(Numbers, Numbers), without: &Report, with: &Report) -> Vec<String> {
    let both = |name: &str, value: &dyn Fn(&Numbers, &Report) -> String| {
        row(name, &value(&numbers.0, without), &value(&numbers.1, with))
    };
    let of = |(part, whole): (usize, usize)| match share(part, whole) {
        Some(percent) => format!("{part}/{whole} {percent:>3} %"),
        None => "-".to_owned(),
    };
    let times = |latency: Option<(Duration, Duration)>| match latency {
        Some((p50, p99)) => format!("{} / {} ms", p50.as_millis(), p99.as_millis()),
        None => "-".to_owned(),
    };
    let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    vec![
        both(
            &format!("connections at PostgreSQL, peak (it has {MAX_CONNECTIONS})"),
            &|_, r| r.peak_database.to_string(),
        ),
        both(
            &format!("connections from Envoy, peak (tidegate's limit {LIMIT})"),
            &|_, r| r.peak_upstream.to_string(),
        ),
        both("refused by PostgreSQL, by its own log", &|_, r| {
            r.database_refusals.to_string()
        }),
        both("refused by tidegate", &|_, r| count(r.guard_refusals)),
        both("attempts a second in the surge", &|n, _| {
            n.attempts_per_s.to_string()
        }),
        both("transactions done a second, by everybody", &|n, _| {
            n.done_per_s.to_string()
        }),
        both("normal clients served in the surge", &|n, _| of(n.normal)),
        both("  those served: p50 / p99", &|n, _| times(n.latency)),
        both("  in the calm before: p50 / p99", &|n, _| {
            times(n.calm_latency)
        }),
        both("normal again after the surge, in second", &|n, _| {
            n.recovered
                .map_or("not seen".to_owned(), |second| second.to_string())
        }),
        both("an operator's own connections in the surge", &|n, _| {
            of(n.operator)
        }),
    ]
}

/// What the numbers say: what is better, and what is not.
fn findings(
    (without_n, with_n): &(Numbers, Numbers),
    without: &Report,
    with: &Report,
) -> Vec<(Colour, &'static str, String)> {
    let mut better = Vec::new();
    let mut worse = Vec::new();
    if with.database_refusals == 0 && without.database_refusals > 0 {
        better.push(
            "PostgreSQL stayed below its own limit: it refused nobody, and started no process \
             to do so."
                .to_owned(),
        );
    } else if with.database_refusals > 0 {
        worse.push(format!(
            "PostgreSQL itself still refused {} connections.",
            with.database_refusals
        ));
    }
    if served(with_n.operator) > served(without_n.operator) {
        better.push(format!(
            "There was room for who does not come through Envoy: an operator got in {} times \
             of {},\n  without tidegate {} of {}.",
            with_n.operator.0, with_n.operator.1, without_n.operator.0, without_n.operator.1
        ));
    }
    if with_n.attempts_per_s < without_n.attempts_per_s {
        better.push(format!(
            "There were fewer attempts: {} a second instead of {}.",
            with_n.attempts_per_s, without_n.attempts_per_s
        ));
    } else if with_n.attempts_per_s > without_n.attempts_per_s {
        worse.push(format!(
            "There were more attempts: {} a second instead of {}.",
            with_n.attempts_per_s, without_n.attempts_per_s
        ));
    }
    let (was, is) = (served(without_n.normal), served(with_n.normal));
    let change = format!("{is} % of the normal clients were served in the surge, without {was} %");
    if is > was {
        better.push(format!("{change}."));
    } else {
        worse.push(format!("{change}: no better."));
    }
    if is < NORMAL_PERCENT {
        worse.push(format!(
            "{} % of the normal clients were not served.",
            100 - is,
        ));
    }
    if let (Some((_, before)), Some((_, now))) = (without_n.latency, with_n.latency)
        && now > before
    {
        worse.push(format!(
            "The slowest of those served took longer (p99 {} ms, without {} ms): an arrival waits \
             up to {MAX_WAIT}\n  for a slot before it is refused.",
            now.as_millis(),
            before.as_millis(),
        ));
    }
    if with_n.recovered > without_n.recovered || with_n.recovered.is_none() {
        worse.push("It took longer until everything was normal after the surge.".to_owned());
    }
    // Clients that are stopped while they connect are no news; they are no more than the slots.
    if let Some(abandoned) = with.abandoned
        && abandoned > u64::from(LIMIT)
    {
        worse.push(format!(
            "tidegate let in {abandoned} connections more than clients saw established."
        ));
    }
    if let Some(faults @ 1..) = with.faults {
        worse.push(format!("tidegate counted {faults} faults of its own."));
    }
    let better = better.into_iter().map(|text| (Colour::Green, "+", text));
    let worse = worse.into_iter().map(|text| (Colour::Yellow, "-", text));
    better.chain(worse).collect()
}

/// The share in per cent, and all of nothing.
fn served((done, tried): (usize, usize)) -> usize {
    share(done, tried).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn second(phase: Phase, done: usize, ended: usize) -> Second {
        Second {
            phase,
            offered: 100,
            admitted: 40,
            held: None,
            refused: 60,
            database: 40,
            normal_done: done,
            normal_ended: ended,
        }
    }

    fn attempt(who: Who, began: u64, took: u64, refusal: Option<&str>) -> Attempt {
        Attempt {
            who,
            began: ms(began),
            took: ms(took),
            result: refusal.map_or(Ok(()), |text| Err(Failure::Refused(text.to_owned()))),
        }
    }

    fn report(normal_served: bool) -> Report {
        let refusal = (!normal_served).then_some("FATAL:  full");
        Report {
            peak_database: 41,
            peak_upstream: 40,
            looks: 10,
            database_refusals: 0,
            guard_refusals: Some(7),
            abandoned: Some(0),
            faults: Some(0),
            left: Some((0, 0)),
            surge: ms(1000)..ms(2000),
            attempts: vec![
                attempt(Who::Normal, 500, 4, None),
                attempt(Who::Normal, 1000, 30, None),
                attempt(Who::Normal, 1500, 50, refusal),
                attempt(Who::Operator, 1500, 3, None),
                attempt(Who::Surge, 1999, 300, Some("FATAL:  full")),
                attempt(Who::Normal, 2000, 9000, None),
            ],
            seconds: vec![
                second(Phase::Calm, 20, 20),
                second(Phase::Surge, 1, 20),
                second(Phase::After, 20, 20),
            ],
        }
    }

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
            let surge = [second(Phase::Surge, 20, 20)];
            let after = after.iter().map(|(d, e)| second(Phase::After, *d, *e));
            surge.into_iter().chain(after).collect()
        };
        assert_eq!(recovered(&run(&[(20, 20), (19, 20)])), Some(1));
        assert_eq!(recovered(&run(&[(20, 20), (18, 20), (20, 20)])), Some(3));
        assert_eq!(recovered(&run(&[(20, 20), (0, 20)])), None);
        assert_eq!(recovered(&run(&[(0, 0)])), None, "silence is not normal");
    }

    #[test]
    fn only_what_began_in_the_surge_counts_for_it() {
        let numbers = Numbers::of(&report(false));
        assert_eq!(numbers.normal, (1, 2));
        assert_eq!(numbers.operator, (1, 1));
        assert_eq!(numbers.latency, Some((ms(30), ms(30))));
        assert_eq!(numbers.calm_latency, Some((ms(4), ms(4))));
        assert_eq!(numbers.told.as_deref(), Some("FATAL:  full"));
    }

    #[test]
    fn the_verdict_says_what_did_not_get_better() {
        let paint = Paint::plain();
        let worse = text(paint, &report(true), &report(false));
        assert!(
            worse.contains(
                "- 50 % of the normal clients were served in the surge, without 100 %: no better."
            ),
            "{worse}"
        );
        let better = text(paint, &report(false), &report(true));
        assert!(
            better
                .contains("+ 100 % of the normal clients were served in the surge, without 50 %."),
            "{better}"
        );
        assert!(!better.contains("were not served"), "{better}");
    }

    #[test]
    fn a_limit_that_was_passed_or_a_slot_that_leaked_is_no_success() {
        let good = report(true);
        let above = Report {
            peak_upstream: u64::from(LIMIT) + 1,
            ..report(true)
        };
        let leaked = Report {
            left: Some((1, 0)),
            ..report(true)
        };
        assert!(good.guard_held() && !above.guard_held() && !leaked.guard_held());
        assert!(text(Paint::plain(), &good, &leaked).contains("did NOT hold"));
    }
}
