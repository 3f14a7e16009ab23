//! Who has which place: a small hash table.

use alloc::{vec, vec::Vec};

/// What has a place by its hash.
pub(crate) trait Hashed {
    /// A hash that outsiders cannot choose.
    fn hash(&self) -> u64;
}

const FREE: u16 = u16::MAX;

/// The places of entries by their hash: open addressing with linear probing, and no tombstones.
///
/// There are to be at least twice as many slots as entries, and entries of different hashes; the
/// slots are a power of two. Memory: 2 bytes a slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places<const SLOTS: usize> {
    /// None before there is an entry.
    slots: Vec<u16>,
}

impl<const SLOTS: usize> Places<SLOTS> {
    fn slot(hash: u64) -> usize {
        const { assert!(SLOTS.is_power_of_two()) };
        // What is cut off does not matter.
        hash as usize % SLOTS
    }

    fn at(&self, slot: usize) -> Option<usize> {
        let place = *self.slots.get(slot)?;
        (place != FREE).then_some(usize::from(place))
    }

    fn put(&mut self, slot: usize, place: u16) {
        if let Some(old) = self.slots.get_mut(slot) {
            *old = place;
        }
    }

    /// The slot where a hash is, or would be.
    fn probe(&self, entries: &[impl Hashed], hash: u64) -> usize {
        let mut slot = Self::slot(hash);
        // More slots than entries exist: one is free.
        while let Some(entry) = self.at(slot).and_then(|place| entries.get(place))
            && entry.hash() != hash
        {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// The place of the entry with that hash.
    pub fn find(&self, entries: &[impl Hashed], hash: u64) -> Option<u16> {
        let place = self.at(self.probe(entries, hash))?;
        Some(place as u16)
    }

    /// The entry with that hash, which has none yet, has that place.
    pub fn insert(&mut self, entries: &[impl Hashed], hash: u64, place: u16) {
        if self.slots.is_empty() {
            self.slots = vec![FREE; SLOTS];
        }
        self.put(self.probe(entries, hash), place);
    }

    /// The entry with that hash, which is still there, is to lose its place.
    pub fn remove(&mut self, entries: &[impl Hashed], hash: u64) {
        let mut hole = self.probe(entries, hash);
        let mut slot = hole;
        while let Some((place, entry)) = {
            slot = (slot + 1) % SLOTS;
            let place = self.at(slot);
            place.and_then(|place| Some((place, entries.get(place)?)))
        } {
            // Whoever stands behind its own slot moves up, if the hole is not before that.
            let behind = slot.wrapping_sub(Self::slot(entry.hash())) % SLOTS;
            if behind >= slot.wrapping_sub(hole) % SLOTS {
                self.put(hole, place as u16);
                hole = slot;
            }
        }
        self.put(hole, FREE);
    }

    /// Those of entries of different hashes.
    pub fn of(entries: &[impl Hashed]) -> Self {
        let mut places = Self::default();
        for (place, entry) in (0..).zip(entries) {
            places.insert(entries, entry.hash(), place);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    impl Hashed for u64 {
        fn hash(&self) -> u64 {
            *self
        }
    }

    impl<const SLOTS: usize> Places<SLOTS> {
        /// How many slots a look-up reads.
        fn reads(&self, entries: &[impl Hashed], hash: u64) -> usize {
            let slot = self.probe(entries, hash);
            slot.wrapping_sub(Self::slot(hash)) % SLOTS + 1
        }
    }

    proptest! {
        #[test]
        fn whatever_the_hashes_a_look_up_reads_no_more_slots_than_there_are_entries(
            // From all alike to all different.
            hashes in (0..9_u32).prop_flat_map(|bits| {
                vec(any::<u64>().prop_map(move |hash| hash << bits), 0..=128)
            }),
            asked in any::<u64>(),
        ) {
            let mut entries = hashes;
            entries.sort_unstable();
            entries.dedup();
            let places = Places::<256>::of(&entries);
            for hash in entries.iter().chain([&asked]) {
                prop_assert!(places.reads(&entries, *hash) <= entries.len() + 1);
            }
        }

        #[test]
        fn everybody_is_found_at_its_place_and_nobody_else(
            // Many want the same slots, also the last and the first.
            steps in vec((any::<bool>(), prop_oneof![0..6_u64, 13..24_u64, 29..40_u64]), 0..200),
        ) {
            let (mut entries, mut free) = (Vec::new(), Vec::new());
            let mut places = Places::<16>::default();
            let mut model = BTreeMap::new();
            for (come, hash) in steps {
                let known = model.get(&hash).copied();
                prop_assert_eq!(places.find(&entries, hash), known);
                match known {
                    Some(place) if !come => {
                        places.remove(&entries, hash);
                        model.remove(&hash);
                        free.push(place);
                    }
                    None if come && model.len() < 8 => {
                        let place = free.pop().unwrap_or_else(|| {
                            entries.push(u64::MAX);
                            entries.len() as u16 - 1
                        });
                        places.insert(&entries, hash, place);
                        entries[usize::from(place)] = hash;
                        model.insert(hash, place);
                    }
                    _ => {}
                }
                for (hash, place) in &model {
                    prop_assert_eq!(places.find(&entries, *hash), Some(*place));
                }
            }
        }
    }
}
