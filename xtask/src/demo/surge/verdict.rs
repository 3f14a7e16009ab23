//! What came of both runs, in numbers and in plain words.

use std::time::Duration;

use super::{NORMAL, OPERATOR, SURGE};
use crate::demo::{
    LIMIT, MAX_WAIT,
    cast::MAX_CONNECTIONS,
    load::Attempt,
    numbers::{
        in_second, latency, named, named_after, offered_per_s, or_dash, recovered, row, served,
        told,
    },
    run::Report,
    view::{Colour, NORMAL_PERCENT, Paint, Served},
};

/// The numbers of one run.
struct Numbers {
    /// Attempts through Envoy in a second of the surge.
    attempts_per_s: u64,
    /// Transactions done in a second of the surge, by everybody.
    done_per_s: u64,
    /// The normal clients in the surge.
    normal: Served,
    /// How long those took that were done: the median and the 99th percentile.
    latency: Option<(Duration, Duration)>,
    /// The same in the calm before.
    calm_latency: Option<(Duration, Duration)>,
    /// The second after the surge from which on everything was normal.
    recovered: Option<usize>,
    /// The operator's connections in the surge.
    operator: Served,
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
        let of = |group: usize| in_surge.iter().copied().filter(move |a| a.group == group);
        let calm = report.attempts.iter().filter(|attempt| {
            attempt.group == NORMAL && attempt.began + attempt.took <= report.surge.start
        });
        let seconds = (report.surge.end - report.surge.start).as_secs().max(1);
        let done = served(of(NORMAL)).done + served(of(SURGE)).done;
        Self {
            attempts_per_s: offered_per_s(&report.seconds),
            done_per_s: done as u64 / seconds,
            normal: served(of(NORMAL)),
            latency: latency(of(NORMAL)),
            calm_latency: latency(calm),
            recovered: recovered(&report.seconds, &[0]),
            operator: served(of(OPERATOR)),
            told: told(in_surge.iter().copied()),
        }
    }
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
    lines.push(if with.limit_held() {
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

/// The lines of the table.
fn table(numbers: &(Numbers, Numbers), without: &Report, with: &Report) -> Vec<String> {
    let both = |name: &str, value: &dyn Fn(&Numbers, &Report) -> String| {
        row(name, &value(&numbers.0, without), &value(&numbers.1, with))
    };
    let of = |served: Served| match served.percent() {
        Some(percent) => format!("{}/{} {percent:>3} %", served.done, served.ended),
        None => "-".to_owned(),
    };
    let times = |latency: Option<(Duration, Duration)>| match latency {
        Some((p50, p99)) => format!("{} / {} ms", p50.as_millis(), p99.as_millis()),
        None => "-".to_owned(),
    };
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
        both("refused by tidegate", &|_, r| or_dash(r.guard_refusals)),
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
        both("who makes it was named, in seconds", &|_, r| named_after(r)),
        both("normal again after the surge, in second", &|n, _| {
            in_second(n.recovered)
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
    if percent(with_n.operator) > percent(without_n.operator) {
        better.push(format!(
            "There was room for who does not come through Envoy: an operator got in {} times \
             of {},\n  without tidegate {} of {}.",
            with_n.operator.done,
            with_n.operator.ended,
            without_n.operator.done,
            without_n.operator.ended
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
    let (was, is) = (percent(without_n.normal), percent(with_n.normal));
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
    if with_n.done_per_s < without_n.done_per_s {
        // Nobody is cut who is not named.
        let why = match named(with) {
            Some(_) => " Who makes the\n  surge is cut to what is normal for it while it lasts.",
            None => "",
        };
        worse.push(format!(
            "Fewer transactions were done by everybody: {} a second instead of {}.{why}",
            with_n.done_per_s, without_n.done_per_s
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
fn percent(served: Served) -> usize {
    served.percent().unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        load::Failure,
        samples::{self, ms, second},
        view::Phase,
    };

    fn attempt(group: usize, began: u64, took: u64, refusal: Option<&str>) -> Attempt {
        Attempt {
            group,
            began: ms(began),
            took: ms(took),
            result: refusal.map_or(Ok(()), |text| Err(Failure::Refused(text.to_owned()))),
        }
    }

    fn report(normal_served: bool) -> Report {
        let refusal = (!normal_served).then_some("FATAL:  full");
        let attempts = vec![
            attempt(NORMAL, 500, 4, None),
            attempt(NORMAL, 1000, 30, None),
            attempt(NORMAL, 1500, 50, refusal),
            attempt(OPERATOR, 1500, 3, None),
            attempt(SURGE, 1999, 300, Some("FATAL:  full")),
            attempt(NORMAL, 2000, 9000, None),
        ];
        let seconds = vec![
            second(Phase::Calm, &[(20, 20)]),
            second(Phase::Surge, &[(1, 20)]),
            second(Phase::After, &[(20, 20)]),
        ];
        samples::report(ms(1000)..ms(2000), attempts, seconds)
    }

    #[test]
    fn only_what_began_in_the_surge_counts_for_it() {
        let numbers = Numbers::of(&report(false));
        assert_eq!(numbers.normal, Served { done: 1, ended: 2 });
        assert_eq!(numbers.operator, Served { done: 1, ended: 1 });
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
        assert!(good.limit_held() && !above.limit_held() && !leaked.limit_held());
        assert!(text(Paint::plain(), &good, &leaked).contains("did NOT hold"));
    }
}
