//! What all machines of one host share: clock, shared data, metrics, log.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Counter,
    Gauge,
    Histogram,
}

/// One host process.
#[derive(Debug, Default)]
pub struct Envoy {
    /// In ns since the epoch.
    pub now: u64,
    /// How far the clock has gone in all, forwards and backwards, in ns.
    pub travelled: u64,
    pub shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    pub metrics: BTreeMap<String, u64>,
    pub log: Vec<String>,
}

pub type Shared = Rc<RefCell<Envoy>>;

/// Where the clock begins: some day.
pub const BEGIN: u64 = 1_800_000_000_000_000_000;

impl Envoy {
    pub fn start() -> Shared {
        Rc::new(RefCell::new(Self {
            now: BEGIN,
            ..Self::default()
        }))
    }

    /// Sets the clock.
    pub fn set_clock(&mut self, now: u64) {
        self.travelled = self.travelled.saturating_add(self.now.abs_diff(now));
        self.now = now;
    }

    /// Sets a shared value; no version, or the right one, is asked for.
    pub fn set_shared(&mut self, key: Vec<u8>, value: Vec<u8>, cas: u32) -> bool {
        let known = self.shared.get(&key).map(|(_, version)| *version);
        if cas != 0 && known.is_some_and(|version| version != cas) {
            return false;
        }
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.shared.insert(key, (value, self.last_cas));
        true
    }

    /// The value of a metric with that label of a rule.
    pub fn metric(&self, rule: &str, name: &str) -> u64 {
        let full = format!("rule=.={rule};.;{name}");
        self.metrics.get(&full).copied().unwrap_or_default()
    }

    /// The sum of a metric over a second label.
    pub fn sum(&self, rule: &str, name: &str) -> u64 {
        let of_rule = self.metrics.iter().filter(|(full, _)| {
            full.starts_with(&format!("rule=.={rule};.;")) && full.ends_with(&format!(";{name}"))
        });
        of_rule.map(|(_, value)| value).sum()
    }
}
