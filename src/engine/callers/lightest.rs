//! Whose place is the next to be given to another.

use alloc::{collections::VecDeque, vec::Vec};

use super::Entry;

/// By how much somebody came, and of those who came alike, who has been there longer.
type Rank = (f64, u32, u16);

fn precedes(a: &Rank, b: &Rank) -> bool {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).is_lt()
}

/// The places that newcomers may take, the lightest first.
///
/// Weights are those of when they were written down. Between two ticks they only grow, so whoever is
/// found to weigh more is sorted in again when its turn comes; nothing is done when it arrives. A
/// newcomer is no lighter than the one before it, so it goes to the end of a queue of newcomers.
/// Cost: amortized, taking and adding are some comparisons; filling is one sort.
#[derive(Clone, Debug, Default)]
pub(super) struct Lightest {
    /// The lightest last.
    sorted: Vec<Rank>,
    /// The lightest first.
    queue: VecDeque<Rank>,
}

impl Lightest {
    /// Weights have changed in other ways than by arrivals.
    pub fn forget(&mut self) {
        self.sorted.clear();
        self.queue.clear();
    }

    fn fill(&mut self, entries: &[Entry]) {
        let places = (0..).zip(entries).filter(|(_, entry)| !entry.settled);
        let ranks = places.map(|(place, entry)| (entry.weight, entry.generation, place));
        self.sorted.extend(ranks);
        self.sorted.sort_by(|a, b| {
            let weight = b.0.total_cmp(&a.0);
            weight.then(b.1.cmp(&a.1))
        });
    }

    /// Takes the place of the lightest that is not settled; it is to be [added](Self::add) again.
    pub fn take(&mut self, entries: &[Entry]) -> Option<u16> {
        if self.sorted.is_empty() && self.queue.is_empty() {
            self.fill(entries);
        }
        loop {
            let queued = match (self.sorted.last(), self.queue.front()) {
                (Some(sorted), Some(queued)) => precedes(queued, sorted),
                (sorted, _) => sorted.is_none(),
            };
            let (weight, generation, place) = if queued {
                self.queue.pop_front()
            } else {
                self.sorted.pop()
            }?;
            let now = entries.get(usize::from(place))?.weight;
            if now.total_cmp(&weight).is_le() {
                return Some(place);
            }
            self.put((now, generation, place));
        }
    }

    /// Somebody took a place that was [taken](Self::take), and has come for the first time.
    pub fn add(&mut self, entry: &Entry, place: u16) {
        self.put((entry.weight, entry.generation, place));
    }

    fn put(&mut self, rank: Rank) {
        if self.queue.back().is_none_or(|last| precedes(last, &rank)) {
            self.queue.push_back(rank);
        } else {
            let place = self.sorted.partition_point(|other| precedes(&rank, other));
            self.sorted.insert(place, rank);
        }
    }
}
