//! What came of both runs: who was served before, during and after the change, who was named for
//! it, and whether the guard held.

use std::{collections::BTreeMap, time::Duration};

use super::{CHANGED, CHANGED_GROUP, MAIL, columns, source, whose};
use crate::demo::{
    LIMIT,
    cast::MAX_CONNECTIONS,
    events::Caller,
    load::Attempt,
    numbers::{
        in_second, latency, named, named_after, offered_per_s, or_dash, recovered, row, served,
        told,
    },
    run::Report,
    view::{Colour, Column, NORMAL_PERCENT, Paint, Served},
};

/// Where operators take longer than this although places are kept for them, it is the database that
/// is slow.
const SLOW: Duration = Duration::from_millis(250);

/// The parts of a run.
const PARTS: [&str; 3] = ["before", "during", "after"];

/// The part of a run that an attempt counts for; none for one that was under way when the change
/// came.
fn part(report: &Report, attempt: &Attempt) -> Option<usize> {
    if attempt.began >= report.surge.end {
        Some(2)
    } else if attempt.began >= report.surge.start {
        Some(1)
    } else {
        (attempt.began + attempt.took <= report.surge.start).then_some(0)
    }
}

/// The attempts of a column in a part of the run.
fn attempts<'a>(
    report: &'a Report,
    column: &'a Column,
    wanted: usize,
) -> impl Iterator<Item = &'a Attempt> {
    let of_column = |attempt: &&Attempt| column.groups.contains(&attempt.group);
    let all = report.attempts.iter().filter(of_column);
    all.filter(move |attempt| part(report, attempt) == Some(wanted))
}

/// Those whose software stayed as it was.
fn unchanged() -> Vec<Column> {
    let mut columns = columns();
    columns.retain(|column| !column.groups.contains(&CHANGED_GROUP));
    columns
}

/// When Mail was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Down {
    /// Seconds in which less than half of the attempts that began were served.
    seconds: usize,
    /// How often it went down.
    times: usize,
}

impl Down {
    fn of(report: &Report, column: &Column) -> Self {
        let mut by_second = BTreeMap::<u64, Served>::new();
        for attempt in &report.attempts {
            if column.groups.contains(&attempt.group) {
                let second = by_second.entry(attempt.began.as_secs()).or_default();
                second.count(attempt.result.is_ok());
            }
        }
        let mut down = Self::default();
        let mut was = false;
        for served in by_second.values() {
            let is = served.percent() < Some(50);
            down.seconds += usize::from(is);
            down.times += usize::from(is && !was);
            was = is;
        }
        down
    }
}

/// Whether it is the one whose software was changed.
fn is_culprit(caller: &Caller) -> bool {
    let (infrastructure, product) = CHANGED;
    caller.key == source(infrastructure, product).to_string()
}

/// What must hold, and whether it does.
fn conditions(with: &Report) -> [(bool, String); 3] {
    let (inflight, upstream) = with.left.unwrap_or_default();
    let limit = if with.limit_held() {
        format!(
            "Never more than {LIMIT} connections at the database, in {} looks, and nothing left open \
             at the end.",
            with.looks
        )
    } else {
        format!(
            "{} connections at a limit of {LIMIT}; at the end tidegate counts {inflight} and Envoy \
             {upstream} open.",
            with.peak_upstream
        )
    };
    let unchanged = unchanged();
    let shares = unchanged.iter().map(|column| {
        // Nobody served nobody.
        let served = served(attempts(with, column, 1));
        (served.percent().unwrap_or(0), column.name)
    });
    let (least, name) = shares.min().unwrap_or_default();
    let served = if least >= NORMAL_PERCENT {
        format!(
            "Everybody else was served during the change: at least {least} % of each product's \
             attempts."
        )
    } else {
        format!(
            "Not everybody else was served during the change: of {name}'s attempts {least} %, and \
             {NORMAL_PERCENT} % are wanted."
        )
    };
    let named = named(with);
    let (found, told) = match &named {
        None => (false, "Nobody was named.".to_owned()),
        Some((after, caller)) => {
            let whose = whose(&caller.key).unwrap_or_else(|| "nobody known".to_owned());
            let told = format!(
                "Named {:.1} s after the change: {}, {whose}, with {:.0}/s and {:.0} % of all.",
                after.as_secs_f64(),
                caller.key,
                caller.rate_per_s,
                caller.share * 100.0
            );
            (is_culprit(caller), told)
        }
    };
    [
        (with.limit_held(), limit),
        (least >= NORMAL_PERCENT, served),
        (found, told),
    ]
}

/// How long those took during the change who wait for no place.
fn operators(report: &Report) -> Option<Duration> {
    let columns = columns();
    let operators = columns.iter().find(|column| column.name == "admin")?;
    latency(attempts(report, operators, 1)).map(|(_, p99)| p99)
}

/// Whether the guard held: the limit was kept, the others were served, the culprit was named.
pub fn guard_held(with: &Report) -> bool {
    conditions(with).iter().all(|(good, _)| *good)
}

/// The tables, and whether the guard held.
pub fn text(paint: Paint, without: &Report, with: &Report) -> String {
    let reports = [without, with];
    let mut lines = products(paint, reports);
    lines.push(String::new());
    lines.extend(table(reports));
    lines.push(String::new());
    lines.push("A client of the changed software that was refused reads".to_owned());
    for (name, report) in [("without:", without), ("with:", with)] {
        let of_it = report.attempts.iter().filter(|a| a.group == CHANGED_GROUP);
        let told = told(of_it).unwrap_or_else(|| "(nobody was refused)".to_owned());
        lines.push(format!("  {name:<9}{told}"));
    }
    lines.push(String::new());
    for (good, text) in conditions(with) {
        let (sign, colour) = if good {
            ("+", Colour::Green)
        } else {
            ("-", Colour::Red)
        };
        lines.push(format!("{} {text}", paint.paint(colour, sign)));
    }
    if let Some(faults @ 1..) = with.faults {
        let text = format!("tidegate counted {faults} faults of its own.");
        lines.push(format!("{} {text}", paint.paint(Colour::Yellow, "-")));
    }
    if let Some(took) = operators(with)
        && took > SLOW
    {
        let text = format!(
            "The database was slow: operators, for whom places are kept, took up to {} ms (p99). \
             This machine\n  has other work to do, and the run says little; repeat it when it has not.",
            took.as_millis()
        );
        lines.push(format!("{} {text}", paint.paint(Colour::Yellow, "!")));
    }
    lines.push(if guard_held(with) {
        paint.paint(Colour::Green, "The guard held.")
    } else {
        paint.paint(Colour::Red, "The guard did NOT hold.")
    });
    lines.join("\n")
}

/// The table of the products.
fn products(paint: Paint, reports: [&Report; 2]) -> Vec<String> {
    let head = format!("{:<34}{:>24}{:>24}", "Verdict", "without", "with tidegate");
    let parts = PARTS.map(|part| format!("{part:>8}")).concat();
    let mut lines = vec![
        paint.paint(Colour::Bold, &head),
        format!("{:<34}{parts}{parts}", ""),
    ];
    for column in &columns() {
        let name = if column.groups.contains(&CHANGED_GROUP) {
            format!("{} (changed): served", column.name)
        } else {
            format!("{}: served", column.name)
        };
        let cells = |cell: &dyn Fn(&Report, usize) -> Option<String>| -> String {
            let all = reports.into_iter().flat_map(|report| {
                (0..PARTS.len()).map(move |part| format!("{:>8}", or_dash(cell(report, part))))
            });
            all.collect()
        };
        let shares = cells(&|report, part| {
            let percent = served(attempts(report, column, part)).percent()?;
            Some(format!("{percent} %"))
        });
        let times = cells(&|report, part| {
            let (_, p99) = latency(attempts(report, column, part))?;
            Some(format!("{} ms", p99.as_millis()))
        });
        lines.push(format!("{name:<34}{shares}"));
        lines.push(format!("{:<34}{times}", "  p99 of those"));
    }
    lines
}

/// The table of everything else.
fn table(reports: [&Report; 2]) -> Vec<String> {
    let both = |name: &str, value: &dyn Fn(&Report) -> String| {
        let [without, with] = reports.map(value);
        row(name, &without, &with)
    };
    let columns = columns();
    let mail = &columns[MAIL];
    let (others, changed): (Vec<usize>, Vec<usize>) =
        (0..columns.len()).partition(|number| !columns[*number].groups.contains(&CHANGED_GROUP));
    let down = |report: &Report| Down::of(report, mail);
    vec![
        both(
            &format!("connections at PostgreSQL, peak (it has {MAX_CONNECTIONS})"),
            &|r| r.peak_database.to_string(),
        ),
        both(
            &format!("connections from Envoy, peak (tidegate's limit {LIMIT})"),
            &|r| r.peak_upstream.to_string(),
        ),
        both("refused by PostgreSQL, by its own log", &|r| {
            r.database_refusals.to_string()
        }),
        both("refused by tidegate", &|r| or_dash(r.guard_refusals)),
        both("  attempts of others that failed during the change", &|r| {
            failed_of_others(r).to_string()
        }),
        both("attempts a second during the change", &|r| {
            offered_per_s(&r.seconds).to_string()
        }),
        both("seconds in which less than half of Mail was served", &|r| {
            down(r).seconds.to_string()
        }),
        both("  how often it went down", &|r| down(r).times.to_string()),
        both("the culprit named, in seconds after the change", &|r| {
            named_after(r)
        }),
        both("others normal again after the rollback, in second", &|r| {
            in_second(recovered(&r.seconds, &others))
        }),
        both("  the changed product itself, in second", &|r| {
            in_second(recovered(&r.seconds, &changed))
        }),
    ]
}

/// The failed attempts during the change of those whose software stayed as it was.
fn failed_of_others(report: &Report) -> usize {
    let failed = |column: &Column| {
        let served = served(attempts(report, column, 1));
        served.ended - served.done
    };
    unchanged().iter().map(failed).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        events::Event,
        load::Failure,
        proton::group,
        samples::{self, ms},
        view::Phase,
    };

    fn attempt(group: usize, began: u64, good: bool) -> Attempt {
        let refused = || Err(Failure::Refused("FATAL:  full".to_owned()));
        Attempt {
            group,
            began: ms(began),
            took: ms(10),
            result: if good { Ok(()) } else { refused() },
        }
    }

    fn started(at: &str, key: &str) -> Event {
        let line = format!(
            "tidegate_event {{\"event\":\"surge_started\",\"at\":\"2025-01-09T15:00:{at}Z\",\
             \"callers\":[{{\"key\":\"{key}\",\"rate_per_s\":187.2,\"baseline_per_s\":20.0,\
             \"share\":0.7}}]}}"
        );
        Event::of(&line).expect("an event")
    }

    /// A change from second 1 to 3, in which its software alone is refused.
    fn report(events: Vec<Event>) -> Report {
        let mut attempts = Vec::new();
        for group in 0..CHANGED_GROUP {
            attempts.push(attempt(group, 500, true));
            attempts.push(attempt(group, 2500, true));
            attempts.push(attempt(group, 3500, true));
        }
        attempts.push(attempt(CHANGED_GROUP, 1500, false));
        let served = vec![(1, 1); columns().len()];
        let phases = [Phase::Calm, Phase::Surge, Phase::Surge, Phase::After];
        let seconds = phases.map(|phase| samples::second(phase, &served));
        Report {
            surge_at: "2025-01-09T15:00:01Z".parse().expect("a time"),
            events,
            ..samples::report(ms(1000)..ms(3000), attempts, seconds.into())
        }
    }

    fn good() -> Report {
        report(vec![started("01.600", "127.2.3.1")])
    }

    #[test]
    fn the_guard_held_when_the_limit_was_kept_the_others_served_and_the_culprit_named() {
        assert!(guard_held(&good()));
        let above = Report {
            peak_upstream: u64::from(LIMIT) + 1,
            ..good()
        };
        assert!(!guard_held(&above));
        let mut lost = good();
        lost.attempts.push(attempt(group((1, MAIL)), 2600, false));
        assert!(!guard_held(&lost));
        assert!(text(Paint::plain(), &lost, &lost).contains("of mail's attempts 66 %"));
        assert!(!guard_held(&report(Vec::new())));
        assert!(!guard_held(&report(vec![started("01.600", "127.1.3.1")])));
    }

    #[test]
    fn a_database_that_was_slow_for_everybody_is_told_of() {
        let mut slow = good();
        for attempt in &mut slow.attempts {
            attempt.took = SLOW + ms(1);
        }
        let said =
            |with: &Report| text(Paint::plain(), &good(), with).contains("database was slow");
        assert!(said(&slow) && !said(&good()));
        assert!(guard_held(&slow), "it is a remark and no excuse");
    }

    #[test]
    fn the_first_surge_after_the_change_is_the_one_that_names_somebody() {
        let events = ["00.500", "01.600", "02.700"].map(|at| started(at, "127.2.3.1"));
        let (after, caller) = named(&report(events.to_vec())).expect("named");
        assert_eq!(after, ms(600));
        assert!(is_culprit(&caller));
        assert!(named(&report(events[..1].to_vec())).is_none());
    }

    #[test]
    fn an_attempt_counts_for_the_part_in_which_it_began() {
        let report = good();
        let of = |began| part(&report, &attempt(0, began, true));
        assert_eq!(of(990), Some(0));
        assert_eq!(of(995), None, "it was under way when the change came");
        assert_eq!([1000, 2999].map(of), [Some(1); 2]);
        assert_eq!(of(3000), Some(2));
    }

    #[test]
    fn a_product_that_flaps_goes_down_several_times() {
        let mut report = report(Vec::new());
        report.attempts.clear();
        for (second, good) in [1, 0, 0, 1, 0, 1].into_iter().enumerate() {
            report
                .attempts
                .push(attempt(0, 1000 * second as u64, good == 1));
        }
        // Half of them is not less than half.
        report.attempts.push(attempt(0, 4100, true));
        let column = &columns()[MAIL];
        let down = Down::of(&report, column);
        assert_eq!((down.seconds, down.times), (2, 1));
        report.attempts.push(attempt(0, 4200, false));
        let down = Down::of(&report, column);
        assert_eq!((down.seconds, down.times), (3, 2));
    }

    #[test]
    fn what_fails_of_the_changed_software_is_nobody_elses_loss() {
        let mut report = good();
        assert_eq!(failed_of_others(&report), 0);
        for number in [group((0, MAIL)), group((0, CHANGED.1)), group(CHANGED)] {
            report.attempts.push(attempt(number, 1100, false));
        }
        assert_eq!(failed_of_others(&report), 2);
    }

    #[test]
    fn the_columns_of_the_products_stand_under_their_parts() {
        let lines = products(Paint::plain(), [&good(), &good()]);
        assert!(lines.iter().all(|line| line.len() == 82), "{lines:#?}");
        let changed = lines.iter().find(|line| line.starts_with("drive/new"));
        let changed = changed.expect("the changed software");
        assert!(changed.contains("100 %    50 %   100 %"), "{changed}");
    }
}
