//! Who comes how often: a bounded table of callers.

mod lightest;
mod memory;
mod spread;

use alloc::vec::Vec;
use core::hash::Hasher;

use super::{
    places::{Hashed, Places},
    time::Timestamp,
};

use lightest::Lightest;

pub use spread::{Caller, Spread};

/// At most this many callers are remembered at once.
pub const MAX_CALLERS: usize = 256;
/// At most this many bytes of a key are remembered, to name it; the whole key tells callers apart.
pub const MAX_KEY: usize = 64;

/// The places are found by so many slots.
const SLOTS: usize = 2 * MAX_CALLERS;
/// At most this many callers have a place that newcomers cannot take.
const SETTLED: usize = MAX_CALLERS / 2;
/// The time constants of weights, of recent arrivals, and of normal rates, in s.
const WEIGHT_S: f64 = 600.0;
const RECENT_S: f64 = 0.5;
const NORMAL_S: f64 = 300.0;
/// Calm seconds until a caller's rate is known.
const KNOWN_S: f64 = 60.0;
/// A known caller that comes less often than this, a second, needs no place of its own.
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
    key: Name,
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
    settled: bool,
}

impl Hashed for Entry {
    fn hash(&self) -> u64 {
        self.hash
    }
}

/// The beginning of a key; not on the heap, for newcomers come often.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Name {
    bytes: [u8; MAX_KEY],
    length: u8,
}

impl Name {
    fn of(key: &[u8]) -> Self {
        let mut bytes = [0; MAX_KEY];
        let length = key.len().min(MAX_KEY);
        for (own, byte) in bytes.iter_mut().zip(key) {
            *own = *byte;
        }
        // MAX_KEY fits.
        let length = length as u8;
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        let length = usize::from(self.length);
        self.bytes.get(..length).unwrap_or(&self.bytes)
    }
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

    /// How much it deserves to be settled.
    fn rank(&self) -> f64 {
        if self.age >= KNOWN_S && self.normal >= RARE_PER_S {
            self.normal
        } else {
            0.0
        }
    }
}

/// Counts arrivals by caller, in bounded memory.
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
/// highest normal rates are; 128 places always remain for newcomers. Recent arrivals (0.5 s) are those
/// since the caller got its place: at least that many. Normal rates are learned over 300 s while it
/// is calm, from when the table began, and stand still in a surge.
///
/// Keys are told apart by a SipHash of a secret seed: two of them are taken for one with a chance of
/// 2⁻⁶⁴. Cost: an arrival is one hash and one look-up, and a newcomer's some comparisons more,
/// however many callers there are; a tick is one pass over the entries. Memory: at most 256 entries of
/// some 150 bytes.
///
/// Weak: where all callers are new, nobody has a normal rate to be compared with.
#[derive(Clone, Debug)]
pub struct Callers {
    seed: [u64; 2],
    entries: Vec<Entry>,
    places: Places<SLOTS>,
    lightest: Lightest,
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
    /// The places and who is the lightest follow from the entries.
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
    pub fn new(seed: [u64; 2]) -> Self {
        Self {
            seed,
            entries: Vec::new(),
            places: Places::default(),
            lightest: Lightest::default(),
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
        self.arrive_as(keyed_hash(self.seed, key), key, many)
    }

    /// As [`arrive_for`](Self::arrive_for), with the hash of the key by this table's seed.
    pub(super) fn arrive_as(&mut self, hash: u64, key: &[u8], many: u32) -> CallerId {
        let arrivals = f64::from(many);
        self.recent = (self.recent + arrivals).min(MOST);
        let known = self.places.find(&self.entries, hash);
        let takes = known.is_none() && self.is_full();
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
            if takes {
                self.lightest.add(entry, place);
            }
        }
        id
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_CALLERS
    }

    /// Gives a newcomer a place, the least one's if need be.
    fn admit(&mut self, hash: u64, key: &[u8]) -> u16 {
        self.generation = self.generation.wrapping_add(1);
        let victim = if self.is_full() {
            self.lightest.take(&self.entries)
        } else {
            None
        };
        if let Some(gone) = victim.and_then(|place| self.entries.get(usize::from(place))) {
            self.floor = self.floor.max(gone.weight);
            self.places.remove(&self.entries, gone.hash);
        }
        let entry = Entry {
            hash,
            generation: self.generation,
            key: Name::of(key),
            weight: self.floor,
            error: self.floor,
            recent: 0.0,
            passed: 0.0,
            fresh: 0,
            normal: 0.0,
            age: 0.0,
            settled: false,
        };
        // At most MAX_CALLERS entries exist, so a place fits.
        let place = victim.unwrap_or(self.entries.len() as u16);
        self.places.insert(&self.entries, hash, place);
        match self.entries.get_mut(usize::from(place)) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        place
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

    /// Lets time pass; to be called about every 100 ms. Normal rates are learned while `calm`.
    ///
    /// A gap of more than a minute counts as one; a clock that steps back lets no time pass.
    pub fn tick(&mut self, now: Timestamp, calm: bool) {
        let last = self.last.replace(now).unwrap_or(now);
        let gap = now.since(last).as_secs_f64().min(GAP_S);
        if gap <= 0.0 {
            return;
        }
        self.lightest.forget();
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
            let theirs = other.places.find(&other.entries, entry.hash);
            match theirs.and_then(|place| other.entries.get(usize::from(place))) {
                Some(theirs) => {
                    entry.weight = (entry.weight + theirs.weight).min(MOST);
                    entry.error = (entry.error + theirs.error).min(MOST);
                    entry.recent = (entry.recent + theirs.recent).min(MOST);
                    entry.passed = (entry.passed + theirs.passed).min(MOST);
                    entry.normal = (entry.normal + theirs.normal).min(MOST);
                    entry.age = entry.age.max(theirs.age);
                    entry.fresh = entry.fresh.saturating_add(theirs.fresh);
                    entry.settled |= theirs.settled;
                }
                None => {
                    entry.weight = (entry.weight + other.floor).min(MOST);
                    entry.error = (entry.error + other.floor).min(MOST);
                }
            }
        }
        for theirs in &other.entries {
            if self.places.find(&self.entries, theirs.hash).is_none() {
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
        self.lightest.forget();
        let mut left = SETTLED;
        for entry in &mut self.entries {
            entry.settled &= left > 0;
            left -= usize::from(entry.settled);
            self.generation = self.generation.wrapping_add(1);
            entry.generation = self.generation;
        }
        self.places = Places::of(&self.entries);
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
