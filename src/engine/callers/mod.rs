//! Who comes how often: a bounded table of callers.

mod memory;
mod spread;

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use core::hash::Hasher;

use super::time::Timestamp;

pub use spread::{Caller, Spread};

/// At most this many callers are remembered at once.
pub const MAX_CALLERS: usize = 256;
/// At most this many bytes of a key are remembered, to name it; the whole key tells callers apart.
pub const MAX_KEY: usize = 64;

/// At most this many callers have a place that newcomers cannot take.
const SETTLED: usize = MAX_CALLERS / 2;
/// The time constants of weights, of recent arrivals, and of normal rates, in s.
const WEIGHT_S: f64 = 600.0;
const RECENT_S: f64 = 0.5;
const NORMAL_S: f64 = 300.0;
/// Calm seconds until a caller's rate is known.
const KNOWN_S: f64 = 60.0;
/// A known caller that comes less often than this, a second, and has nothing open needs no place of
/// its own.
const RARE_PER_S: f64 = 0.01;
/// No gap between ticks counts for more than this, in s.
const GAP_S: f64 = 60.0;
/// Seconds between two looks at who is settled.
const LOOK_S: f64 = 10.0;
/// No count is above this.
const MOST: f64 = 1e15;

/// Names a caller for as long as it is remembered; a stale one is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerId {
    place: u16,
    generation: u32,
}

/// What is known of one caller.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    hash: u64,
    generation: u32,
    key: Box<[u8]>,
    /// Decayed arrivals, and how many of them may be somebody else's.
    weight: f64,
    error: f64,
    /// Decayed quickly, and only what was counted here.
    recent: f64,
    /// Of them, those that were not cut.
    passed: f64,
    /// Since the last tick.
    fresh: u32,
    /// Mean rate a second while it was calm.
    normal: f64,
    /// Calm seconds since it got its place.
    age: f64,
    open: u32,
    settled: bool,
}

impl Entry {
    /// The normal rate a second, once it is known.
    fn baseline(&self) -> f64 {
        if self.age >= KNOWN_S {
            self.normal
        } else {
            0.0
        }
    }

    /// How much it deserves to be settled; what is open counts as one arrival in 10 minutes.
    fn rank(&self) -> f64 {
        let known = self.age >= KNOWN_S && (self.normal >= RARE_PER_S || self.open > 0);
        if known {
            self.normal + f64::from(self.open) / WEIGHT_S
        } else {
            0.0
        }
    }
}

/// Counts arrivals and open connections by caller, in bounded memory.
///
/// Space-Saving (Metwally, Agrawal, El Abbadi, 2005) over arrivals that decay with a time constant
/// of 600 s: a newcomer takes the place of the lightest, and its weight begins at the
/// [floor](Self::floor), the most that anybody who lost a place had; that is its error. So:
/// - a caller with a place has come at least `weight − error` times, and at most `weight` times;
/// - a caller without one has come at most `floor` times;
/// - the floor is at most `N / 128` while the same callers are settled, `N` being all arrivals,
///   decayed. Whoever came more often than that has a place.
///
/// A caller that is known, after 60 calm seconds, can be settled: no newcomer takes its place, so a
/// flood of keys that outsiders choose cannot make the table forget who is normal. The 128 with the
/// highest normal rates are; 128 places always remain for newcomers. Recent arrivals (0.5 s) and open
/// connections are those since the caller got its place: at least that many. Normal rates are
/// learned over 300 s while it is calm, from when the table began, and stand still in a surge.
///
/// Keys are told apart by a SipHash of a secret seed: two of them are taken for one with a chance of
/// 2⁻⁶⁴. Cost: an arrival of a known caller is one hash and 8 comparisons, one of a newcomer a pass
/// over 256 entries more, a tick one pass. Memory: at most 256 entries of some 150 bytes.
///
/// Weak: of a caller that lost its place, what it had open is forgotten; where all callers are
/// new, nobody has a normal rate to be compared with.
#[derive(Clone, Debug)]
pub struct Callers {
    seed: [u64; 2],
    entries: Vec<Entry>,
    /// From hash to place.
    index: BTreeMap<u64, u16>,
    /// The most that any caller without a place may weigh.
    floor: f64,
    /// Recent arrivals of all callers.
    recent: f64,
    generation: u32,
    last: Option<Timestamp>,
    /// Calm seconds that this table has seen.
    watched: f64,
    /// Seconds until the settled are chosen anew.
    look: f64,
}

impl PartialEq for Callers {
    /// The index follows from the entries.
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
            && self.entries == other.entries
            && (self.floor, self.recent, self.look) == (other.floor, other.recent, other.look)
            && (self.generation, self.last) == (other.generation, other.last)
            && self.watched == other.watched
    }
}

/// Two tables of different seeds cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSeed;

impl Callers {
    /// An empty table. The seed is secret, and the same for tables that are to be merged.
    pub const fn new(seed: [u64; 2]) -> Self {
        Self {
            seed,
            entries: Vec::new(),
            index: BTreeMap::new(),
            floor: 0.0,
            recent: 0.0,
            generation: 0,
            last: None,
            watched: 0.0,
            look: LOOK_S,
        }
    }

    /// Counts an arrival of the caller with that key.
    pub fn arrive(&mut self, key: &[u8]) -> CallerId {
        self.arrive_for(key, 1)
    }

    /// Counts an arrival that stands for `many`, when only one in so many is looked at. Bounds then
    /// hold for the sample.
    pub fn arrive_for(&mut self, key: &[u8], many: u32) -> CallerId {
        let hash = keyed_hash(self.seed, key);
        let arrivals = f64::from(many);
        self.recent = (self.recent + arrivals).min(MOST);
        let known = self.index.get(&hash).copied();
        let place = known.unwrap_or_else(|| self.admit(hash, key));
        let mut id = CallerId {
            place,
            generation: 0,
        };
        if let Some(entry) = self.entries.get_mut(usize::from(place)) {
            entry.weight = (entry.weight + arrivals).min(MOST);
            entry.recent = (entry.recent + arrivals).min(MOST);
            entry.fresh = entry.fresh.saturating_add(many);
            id.generation = entry.generation;
        }
        id
    }

    /// Gives a newcomer a place, the least one's if need be.
    fn admit(&mut self, hash: u64, key: &[u8]) -> u16 {
        self.generation = self.generation.wrapping_add(1);
        let victim = (self.entries.len() >= MAX_CALLERS)
            .then(|| self.least())
            .flatten();
        if let Some(gone) = victim.and_then(|place| self.entries.get(usize::from(place))) {
            self.floor = self.floor.max(gone.weight);
            self.index.remove(&gone.hash);
        }
        let entry = Entry {
            hash,
            generation: self.generation,
            key: key.iter().take(MAX_KEY).copied().collect(),
            weight: self.floor,
            error: self.floor,
            recent: 0.0,
            passed: 0.0,
            fresh: 0,
            normal: 0.0,
            age: 0.0,
            open: 0,
            settled: false,
        };
        // At most MAX_CALLERS entries exist, so a place fits.
        let place = victim.unwrap_or(self.entries.len() as u16);
        match self.entries.get_mut(usize::from(place)) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self.index.insert(hash, place);
        place
    }

    /// The place of the lightest that is not settled.
    fn least(&self) -> Option<u16> {
        let places = self.entries.iter().enumerate();
        places
            .filter(|(_, entry)| !entry.settled)
            .min_by(|(_, a), (_, b)| a.weight.total_cmp(&b.weight))
            .map(|(place, _)| place as u16)
    }

    /// The entry of an id that is not stale.
    fn entry_mut(&mut self, id: CallerId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(usize::from(id.place))?;
        (entry.generation == id.generation).then_some(entry)
    }

    /// What has just [arrived](Self::arrive_for) is not cut.
    pub fn passed(&mut self, id: CallerId, many: u32) {
        if let Some(entry) = self.entry_mut(id) {
            entry.passed = (entry.passed + f64::from(many)).min(MOST);
        }
    }

    /// One more connection or request of this caller is open.
    pub fn opened(&mut self, id: CallerId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.open = entry.open.saturating_add(1);
        }
    }

    /// One that was [`opened`](Self::opened) with this id is closed.
    pub fn closed(&mut self, id: CallerId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    /// Lets time pass; to be called about every 100 ms. Normal rates are learned while `calm`.
    ///
    /// A gap of more than a minute counts as one; a clock that steps back lets no time pass.
    pub fn tick(&mut self, now: Timestamp, calm: bool) {
        let last = self.last.replace(now).unwrap_or(now);
        let gap = now.since(last).as_secs_f64().min(GAP_S);
        if gap <= 0.0 {
            return;
        }
        let (slow, quick) = (libm::exp(-gap / WEIGHT_S), libm::exp(-gap / RECENT_S));
        self.floor *= slow;
        self.recent *= quick;
        if calm {
            self.watched = (self.watched + gap).min(MOST);
        }
        // Who was not there yet came at no rate: a newcomer's first moment is not what is normal.
        let share = (gap / NORMAL_S).max(gap / self.watched).min(1.0);
        for entry in &mut self.entries {
            entry.weight *= slow;
            entry.error *= slow;
            entry.recent *= quick;
            entry.passed *= quick;
            if calm {
                let rate = f64::from(entry.fresh) / gap;
                entry.age = (entry.age + gap).min(MOST);
                entry.normal = (entry.normal + share * (rate - entry.normal)).clamp(0.0, MOST);
            }
            entry.fresh = 0;
        }
        self.look -= gap;
        if self.look <= 0.0 {
            self.look = LOOK_S;
            if calm {
                self.settle();
            }
        }
    }

    /// Chooses who is settled: the known callers that rank highest.
    fn settle(&mut self) {
        let mut ranks: Vec<f64> = self.entries.iter().map(Entry::rank).collect();
        ranks.sort_by(|a, b| b.total_cmp(a));
        let least = ranks.get(SETTLED - 1).copied().unwrap_or(0.0);
        let mut left = SETTLED;
        for entry in &mut self.entries {
            let rank = entry.rank();
            entry.settled = rank > 0.0 && rank >= least && left > 0;
            left -= usize::from(entry.settled);
        }
    }

    /// Adds what another worker counted; ids that were given out before are stale then.
    ///
    /// A caller that only one of them knows may have been counted by the other up to its floor, which
    /// becomes part of its error (Agarwal and others, Mergeable Summaries, 2012). Bounds add up.
    ///
    /// # Errors
    /// [`OtherSeed`], and nothing is changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), OtherSeed> {
        if self.seed != other.seed {
            return Err(OtherSeed);
        }
        for entry in &mut self.entries {
            let theirs = other.index.get(&entry.hash);
            match theirs.and_then(|place| other.entries.get(usize::from(*place))) {
                Some(theirs) => {
                    entry.weight = (entry.weight + theirs.weight).min(MOST);
                    entry.error = (entry.error + theirs.error).min(MOST);
                    entry.recent = (entry.recent + theirs.recent).min(MOST);
                    entry.passed = (entry.passed + theirs.passed).min(MOST);
                    entry.normal = (entry.normal + theirs.normal).min(MOST);
                    entry.age = entry.age.max(theirs.age);
                    entry.fresh = entry.fresh.saturating_add(theirs.fresh);
                    entry.open = entry.open.saturating_add(theirs.open);
                    entry.settled |= theirs.settled;
                }
                None => {
                    entry.weight = (entry.weight + other.floor).min(MOST);
                    entry.error = (entry.error + other.floor).min(MOST);
                }
            }
        }
        for theirs in &other.entries {
            if !self.index.contains_key(&theirs.hash) {
                let mut entry = theirs.clone();
                entry.weight = (entry.weight + self.floor).min(MOST);
                entry.error = (entry.error + self.floor).min(MOST);
                self.entries.push(entry);
            }
        }
        self.floor = (self.floor + other.floor).min(MOST);
        self.recent = (self.recent + other.recent).min(MOST);
        self.watched = self.watched.max(other.watched);
        self.shrink();
        Ok(())
    }

    /// Brings the entries of two tables down to one.
    fn shrink(&mut self) {
        self.entries.sort_by(|a, b| {
            let weight = b.weight.total_cmp(&a.weight);
            b.settled
                .cmp(&a.settled)
                .then(weight)
                .then(a.hash.cmp(&b.hash))
        });
        for gone in self.entries.drain(MAX_CALLERS.min(self.entries.len())..) {
            self.floor = self.floor.max(gone.weight);
        }
        self.index.clear();
        let mut left = SETTLED;
        for (place, entry) in self.entries.iter_mut().enumerate() {
            entry.settled &= left > 0;
            left -= usize::from(entry.settled);
            self.generation = self.generation.wrapping_add(1);
            entry.generation = self.generation;
            self.index.insert(entry.hash, place as u16);
        }
    }
}

/// A hash that an outsider without the seed can neither foresee nor steer: SipHash-2-4.
pub fn keyed_hash(seed: [u64; 2], bytes: &[u8]) -> u64 {
    let [k0, k1] = seed;
    // The one keyed hash of `core`; what replaces it in `std` has no seed of one's own.
    #[expect(deprecated, reason = "the only keyed hash in core")]
    let mut hasher = core::hash::SipHasher::new_with_keys(k0, k1);
    hasher.write(bytes);
    hasher.finish()
}
