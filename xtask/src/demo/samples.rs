//! What the tests of the verdicts look at.

use std::{ops::Range, time::Duration};

use super::{
    load::Attempt,
    run::Report,
    view::{Phase, Second, Served},
};

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A second in which so many of so many were served, of each kind of clients.
pub fn second(phase: Phase, served: &[(usize, usize)]) -> Second {
    let served = served.iter().map(|(done, ended)| Served {
        done: *done,
        ended: *ended,
    });
    Second {
        phase,
        offered: 100,
        admitted: 40,
        held: None,
        refused: 60,
        database: 40,
        served: served.collect(),
    }
}

/// A run in which the guard held and said nothing.
pub fn report(surge: Range<Duration>, attempts: Vec<Attempt>, seconds: Vec<Second>) -> Report {
    Report {
        peak_database: 41,
        peak_upstream: 40,
        looks: 10,
        database_refusals: 0,
        guard_refusals: Some(7),
        abandoned: Some(0),
        faults: Some(0),
        left: Some((0, 0)),
        surge,
        surge_at: jiff::Timestamp::UNIX_EPOCH,
        events: Vec::new(),
        attempts,
        seconds,
    }
}
