//! Who makes a surge.

use alloc::vec::Vec;

use super::{CallerId, Callers, Entry, RECENT_S};

/// A caller is hot above this multiple of its normal rate, and this many deviations more.
const HOT: f64 = 2.0;
const SIGMAS: f64 = 3.0;
/// Up to this many callers are few.
const FEW: usize = 8;
/// So much of what is beyond normal makes the culprits.
const MOST_OF_IT: f64 = 0.5;

/// Who makes a surge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One caller makes half of what is beyond normal, or more.
    OneCaller,
    /// Up to eight callers do.
    FewCallers,
    /// More than half of the callers are hot, or no eight of them make half of it.
    Everybody,
}

impl Spread {
    /// As in the log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneCaller => "one_caller",
            Self::FewCallers => "few_callers",
            Self::Everybody => "everybody",
        }
    }
}

/// What is told of a caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caller<'a> {
    /// Up to [`MAX_KEY`](super::MAX_KEY) bytes of its key.
    pub key: &'a [u8],
    /// Arrivals a second, over half a second; at least that.
    pub rate_per_s: f64,
    /// Its normal rate a second; 0 while it is new.
    pub baseline_per_s: f64,
    /// Its part of all recent arrivals, from 0 to 1; at least that.
    pub share: f64,
    /// Arrivals that decay over 600 s; at most that.
    pub weight: f64,
    /// How many of these may be somebody else's.
    pub error: f64,
    /// Open now; at least that.
    pub open: u32,
    /// Far above its normal rate.
    pub hot: bool,
}

impl Entry {
    /// Recent arrivals that a normal rate would not have brought.
    fn excess(&self) -> f64 {
        (self.recent - self.baseline() * RECENT_S).max(0.0)
    }

    /// Above twice its normal rate by more than chance.
    fn is_hot(&self) -> bool {
        let normal = HOT * self.baseline() * RECENT_S;
        self.recent > normal + SIGMAS * normal.max(1.0).sqrt()
    }
}

impl Callers {
    fn told<'a>(&self, entry: &'a Entry) -> Caller<'a> {
        Caller {
            key: &entry.key,
            rate_per_s: entry.recent / RECENT_S,
            baseline_per_s: entry.baseline(),
            share: (entry.recent / self.recent.max(1e-9)).min(1.0),
            weight: entry.weight,
            error: entry.error,
            open: entry.open,
            hot: entry.is_hot(),
        }
    }

    /// What is known of a caller; none when its id is stale.
    pub fn get(&self, id: CallerId) -> Option<Caller<'_>> {
        let entry = self.entries.get(usize::from(id.place))?;
        (entry.generation == id.generation).then(|| self.told(entry))
    }

    /// What is known of the caller with that key; none when it has no place.
    pub fn find(&self, key: &[u8]) -> Option<Caller<'_>> {
        let place = self.index.get(&super::keyed_hash(self.seed, key))?;
        let entry = self.entries.get(usize::from(*place))?;
        Some(self.told(entry))
    }

    /// How many callers have a place.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody ever came.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The most that any caller without a place may have come, decayed over 600 s.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// All callers that have a place, those first that are furthest beyond their normal rate.
    pub fn by_excess(&self) -> Vec<Caller<'_>> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| {
            let recent = b.recent.total_cmp(&a.recent);
            b.excess()
                .total_cmp(&a.excess())
                .then(recent)
                .then(a.hash.cmp(&b.hash))
        });
        entries.into_iter().map(|entry| self.told(entry)).collect()
    }

    /// Who makes what is beyond normal now.
    ///
    /// With more than half of the callers hot, three at least, there is no culprit. Cost: one sort
    /// of 256 entries.
    pub fn spread(&self) -> Spread {
        let hot = self.entries.iter().filter(|entry| entry.is_hot()).count();
        let active = self.entries.iter().filter(|entry| entry.recent >= 0.5);
        if hot > 2 && 2 * hot > active.count() {
            return Spread::Everybody;
        }
        let mut excesses: Vec<f64> = self.entries.iter().map(Entry::excess).collect();
        excesses.sort_by(|a, b| b.total_cmp(a));
        let counted: f64 = self.entries.iter().map(|entry| entry.recent).sum();
        // Arrivals of callers that have lost their place are nobody's.
        let all = excesses.iter().sum::<f64>() + (self.recent - counted).max(0.0);
        let of = |count: usize| excesses.iter().take(count).sum::<f64>();
        if hot == 0 || all <= 0.0 {
            Spread::Everybody
        } else if of(1) >= MOST_OF_IT * all {
            Spread::OneCaller
        } else if of(FEW) >= MOST_OF_IT * all {
            Spread::FewCallers
        } else {
            Spread::Everybody
        }
    }
}
