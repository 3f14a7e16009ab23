//! Who makes a surge.

use alloc::vec::Vec;

use super::{CallerId, Callers, Entry, KNOWN_S, MOST, RECENT_S};
use crate::engine::hot::{Heat, MAX_HOT};

/// A caller is hot above this multiple of its normal rate, and this many deviations more.
const HOT: f64 = 2.0;
const SIGMAS: f64 = 3.0;
/// Up to this many callers are few.
const FEW: usize = 8;
/// So much of what is beyond normal makes the culprits.
const MOST_OF_IT: f64 = 0.5;
/// It lies flat on many when it takes more than half of the hot ones to make so much of it.
const NEARLY_ALL: f64 = 0.8;

/// Who makes a surge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One caller makes half of what is beyond normal, or more.
    OneCaller,
    /// Up to eight callers do.
    FewCallers,
    /// More than half of the callers are hot and share it alike, or no eight of them make half of it.
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
    /// Its normal rate a second; 0 while it is new. In a table that is younger than two minutes that
    /// is who was there for less than half of the time.
    pub baseline_per_s: f64,
    /// Its part of all recent arrivals, from 0 to 1; at least that.
    pub share: f64,
    /// Arrivals that decay over 600 s; at most that.
    pub weight: f64,
    /// How many of these may be somebody else's.
    pub error: f64,
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
            key: entry.key.as_bytes(),
            rate_per_s: entry.recent / RECENT_S,
            baseline_per_s: self.usual(entry),
            share: (entry.recent / self.recent.max(1e-9)).min(1.0),
            weight: entry.weight,
            error: entry.error,
            hot: entry.is_hot(),
        }
    }

    /// The rate that is told of a caller as its normal one: a young Envoy knows nobody for a minute, but
    /// who was there from the beginning is not new.
    fn usual(&self, entry: &Entry) -> f64 {
        if entry.age >= KNOWN_S.min(self.watched / 2.0) {
            entry.normal
        } else {
            0.0
        }
    }

    /// What is known of a caller; none when its id is stale.
    pub fn get(&self, id: CallerId) -> Option<Caller<'_>> {
        let entry = self.entries.get(usize::from(id.place))?;
        (entry.generation == id.generation).then(|| self.told(entry))
    }

    /// What is known of the caller with that key; none when it has no place.
    pub fn find(&self, key: &[u8]) -> Option<Caller<'_>> {
        let hash = super::keyed_hash(self.seed, key);
        let place = self.places.find(&self.entries, hash)?;
        let entry = self.entries.get(usize::from(place))?;
        Some(self.told(entry))
    }

    /// Those who make a surge and are to be cut, the one with the largest excess first; none when
    /// it is everybody.
    ///
    /// A caller that is not known for a minute yet counts with the rate that it had so far, for a
    /// young Envoy must not cut whom it has not yet come to know.
    pub fn hot(&self) -> Vec<Heat> {
        if self.spread() == Spread::Everybody {
            return Vec::new();
        }
        let excess = |entry: &Entry| entry.recent - HOT * entry.normal * RECENT_S;
        let mut hot: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| {
                let normal = HOT * entry.normal * RECENT_S;
                excess(entry) > SIGMAS * normal.max(1.0).sqrt()
            })
            .collect();
        hot.sort_by(|a, b| excess(b).total_cmp(&excess(a)).then(a.hash.cmp(&b.hash)));
        let heat = |entry: &Entry| Heat {
            caller: entry.hash,
            offered_per_s: entry.recent / RECENT_S,
            passed_per_s: entry.passed / RECENT_S,
            baseline_per_s: entry.normal,
        };
        hot.into_iter().take(MAX_HOT).map(heat).collect()
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
    /// The one or the few who make half of it, by more than they would if they had grown as the
    /// others did: where all come three times as often, the largest is no culprit. With more than
    /// half of the callers hot, three at least, and all of it lying flat on them, so that four
    /// fifths take more than half of them, there are no few either. A caller that is new has no
    /// normal rate, so all that it brings is beyond normal: where nearly all are new, whoever is the
    /// largest by far is named, though it may always have been. Cost: one sort of 256 entries.
    pub fn spread(&self) -> Spread {
        let hot = self.entries.iter().filter(|entry| entry.is_hot()).count();
        let active = self.entries.iter().filter(|entry| entry.recent >= 0.5);
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| b.excess().total_cmp(&a.excess()));
        let counted: f64 = entries.iter().map(|entry| entry.recent).sum();
        let excess: f64 = entries.iter().map(|entry| entry.excess()).sum();
        // Arrivals of callers that have lost their place are nobody's.
        let all = excess + (self.recent - counted).max(0.0);
        if hot == 0 || all <= 0.0 {
            return Spread::Everybody;
        }
        if beyond_the_others(&entries, 1) >= MOST_OF_IT * all {
            return Spread::OneCaller;
        }
        let many = hot > 2 && 2 * hot > active.count();
        let half_of_them: f64 = entries
            .iter()
            .take(hot / 2)
            .map(|entry| entry.excess())
            .sum();
        let flat = half_of_them < NEARLY_ALL * all;
        if !(many && flat) && beyond_the_others(&entries, FEW) >= MOST_OF_IT * all {
            Spread::FewCallers
        } else {
            Spread::Everybody
        }
    }
}

/// What the first `count` bring more than if they had grown as much as the known ones of the rest.
fn beyond_the_others(entries: &[&Entry], count: usize) -> f64 {
    let (first, rest) = entries.split_at(count.min(entries.len()));
    let known = || rest.iter().filter(|entry| entry.baseline() > 0.0);
    let normal: f64 = known().map(|entry| entry.baseline() * RECENT_S).sum();
    let recent: f64 = known().map(|entry| entry.recent).sum();
    let growth = if normal > 0.0 {
        (recent / normal).clamp(1.0, MOST)
    } else {
        1.0
    };
    let beyond = |entry: &&Entry| (entry.recent - growth * entry.baseline() * RECENT_S).max(0.0);
    first.iter().map(beyond).sum()
}
