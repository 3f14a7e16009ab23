//! Runs row after row, and keeps what came of it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    task::LocalSet,
};

use crate::{
    clients::Script,
    guards::Guard,
    table::{Measured, Row, Section, Unmeasured},
};

/// The user wants an end; the text names the signal.
#[derive(Debug)]
pub struct Stopped(pub &'static str);

/// Why a row has no numbers.
#[derive(Debug)]
pub enum Failed {
    /// Something in this row went wrong; the next may do.
    Here(String),
    Stopped(Stopped),
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// A row to be measured.
pub struct Case<H> {
    pub slug: &'static str,
    pub name: &'static str,
    pub guard: Guard,
    pub how: H,
    long_only: bool,
}

impl<H> Case<H> {
    pub fn new(slug: &'static str, name: &'static str, guard: Guard, how: H) -> Self {
        Self {
            slug,
            name,
            guard,
            how,
            long_only: false,
        }
    }

    /// Left out when time is short.
    pub fn long_only(mut self) -> Self {
        self.long_only = true;
        self
    }
}

/// The whole run.
pub struct Bench {
    pub quick: bool,
    only: Vec<String>,
    runtime: Runtime,
    stop: Stop,
    done: Vec<(Section, Vec<Row>)>,
}

struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// As long as tidegate needs to learn what is normal, and a little more.
const LEARNING: Duration = Duration::from_secs(66);

impl Bench {
    pub fn new(quick: bool, only: Vec<String>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = {
            let _inside = runtime.enter();
            Stop {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            }
        };
        Ok(Self {
            quick,
            only,
            runtime,
            stop,
            done: Vec::new(),
        })
    }

    /// How long the acts are.
    pub fn script(&self) -> Script {
        let seconds = if self.quick { [3, 6, 4] } else { [4, 12, 10] };
        let [calm, surge, after] = seconds.map(Duration::from_secs);
        Script { calm, surge, after }
    }

    /// The same, with time to learn for a guard that does.
    pub fn script_for(&self, guard: &Guard) -> Script {
        let mut script = self.script();
        if matches!(guard, Guard::Tidegate(_)) && !self.quick {
            script.calm = LEARNING;
        }
        script
    }

    /// Whether a section or row is wanted, by `section/row`.
    pub fn wants(&self, name: &str) -> bool {
        is_wanted(&self.only, name)
    }

    /// Runs clients on this thread until they are done, or the user wants an end.
    pub fn run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failed> {
        let stop = &mut self.stop;
        LocalSet::new().block_on(&self.runtime, async {
            tokio::select! {
                biased;
                _ = stop.interrupt.recv() => Err(Stopped("Ctrl-C").into()),
                _ = stop.terminate.recv() => Err(Stopped("SIGTERM").into()),
                _ = stop.hangup.recv() => Err(Stopped("SIGHUP").into()),
                done = work => Ok(done),
            }
        })
    }

    /// Measures the rows that are wanted, and prints each as it is there.
    pub fn section<H>(
        &mut self,
        section: Section,
        cases: impl IntoIterator<Item = Case<H>>,
        mut measure: impl FnMut(&mut Self, &Case<H>) -> Result<Measured, Failed>,
    ) -> Result<(), Stopped> {
        let mut rows: Vec<Row> = Vec::new();
        for case in cases {
            let name = format!("{}/{}", section.slug, case.slug);
            let named = self
                .only
                .iter()
                .any(|only| case.slug == only || name == *only);
            if !self.wants(&name) || (self.quick && case.long_only && !named) {
                continue;
            }
            if rows.is_empty() {
                section.print();
            }
            let result = match case.guard.missing() {
                Some(why) => Err(Unmeasured::Impossible(why)),
                None => {
                    eprintln!("> {name}");
                    let measured = catch_unwind(AssertUnwindSafe(|| measure(self, &case)));
                    match measured {
                        Ok(Ok(measured)) => Ok(measured),
                        Ok(Err(Failed::Stopped(stopped))) => return Err(stopped),
                        Ok(Err(Failed::Here(why))) => Err(Unmeasured::Failed(why)),
                        Err(panic) => Err(Unmeasured::Failed(words(&*panic))),
                    }
                }
            };
            let row = Row {
                slug: case.slug,
                name: case.name.to_owned(),
                result,
            };
            section.print_row(&row);
            rows.push(row);
        }
        self.add(section, rows);
        Ok(())
    }

    /// Keeps a section with its rows, if there are any.
    pub fn add(&mut self, section: Section, rows: Vec<Row>) {
        if !rows.is_empty() {
            self.done.push((section, rows));
        }
    }

    /// All rows so far.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.done.iter().flat_map(|(_, rows)| rows)
    }

    /// The rows of a section, if there are any.
    pub fn rows_of(&self, slug: &str) -> Option<&[Row]> {
        let section = self.done.iter().find(|(section, _)| section.slug == slug);
        section.map(|(_, rows)| rows.as_slice())
    }

    /// Everything as JSON.
    pub fn document(&self) -> String {
        let sections = self.done.iter().map(|(section, rows)| section.json(rows));
        let document: Value = json!({
            "bench": "surge",
            "version": tidegate::build_info::VERSION,
            "commit": tidegate::build_info::COMMIT,
            "quick": self.quick,
            "sections": sections.collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }
}

/// Whether `section/row` is one of these, each a part of it; everything is when there are none.
fn is_wanted(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_a_part_of_their_name() {
        let only = |parts: &[&str]| {
            parts
                .iter()
                .map(|part| (*part).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(is_wanted(&[], "tcp/none"));
        assert!(is_wanted(&only(&["http", "tcp/"]), "tcp/none"));
        assert!(is_wanted(&only(&["tidegate"]), "tcp/tidegate_spread"));
        assert!(!is_wanted(&only(&["http"]), "tcp/none"));
    }
}
