//! Looks at the plugin's count and at the upstreams' while everybody stands still.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    harness::metrics::Metrics,
    hostile::{
        fickle::Fickle,
        stand::{Door, Stand},
    },
};

/// The plugin tells its count every 100 ms, and a connection that was let go takes a moment on its
/// way: so long the two may differ after everybody has come to a stand.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one look to the next in that time.
const AGAIN: Duration = Duration::from_millis(25);

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// How long it took until the two were the same, at all doors in the same look, between two
    /// equal counts of the upstreams; none: they were not in time.
    pub lag: Option<Duration>,
    /// Open at all upstreams.
    pub open: usize,
}

/// Brings everybody to a stand, looks, and lets all go on.
pub fn look(stand: &Stand, director: &watch::Sender<bool>) -> Look {
    director.send_replace(true);
    let seen = compare(stand);
    director.send_replace(false);
    seen
}

fn compare(stand: &Stand) -> Look {
    let real = || [0, 1, 2, 3].map(|door: usize| Fickle::open(&stand.upstreams[door]));
    let since = Instant::now();
    loop {
        thread::sleep(AGAIN);
        let before = real();
        let told = told(&stand.envoy.metrics());
        let open = real();
        let same = before == open && told == open.map(|open| open as f64);
        let late = since.elapsed() > PATIENCE;
        if same || late {
            if !same {
                eprintln!("  tidegate_inflight {told:?}, open {before:?}, then {open:?}");
            }
            return Look {
                lag: same.then(|| since.elapsed()),
                open: open.iter().sum(),
            };
        }
    }
}

fn told(metrics: &Metrics) -> [f64; 4] {
    Door::ALL.map(|door| metrics.rule(door.rule(), "tidegate_inflight"))
}
