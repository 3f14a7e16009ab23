//! The table of callers as bytes.

use alloc::vec::Vec;

use super::{Callers, Entry, LOOK_S, Lightest, MAX_CALLERS, MAX_KEY, MOST, Name, SETTLED};
use crate::engine::{
    bytes::{MemoryError, Put, Reader},
    places::Places,
    time::Timestamp,
};

const MAGIC: [u8; 4] = *b"TGC\x04";

impl Callers {
    /// Appends the whole table, at most 32 KiB; the seed is part of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        for half in self.seed {
            out.put(half.to_le_bytes());
        }
        out.put_f64s([self.floor, self.recent, self.look, self.watched]);
        out.put(self.generation.to_le_bytes());
        out.push(u8::from(self.last.is_some()));
        out.put(self.last.unwrap_or_default().as_nanos().to_le_bytes());
        // At most MAX_CALLERS entries with keys of at most MAX_KEY bytes.
        out.put((self.entries.len() as u16).to_le_bytes());
        for entry in &self.entries {
            out.put(entry.hash.to_le_bytes());
            out.put_f64s([entry.weight, entry.error, entry.recent]);
            out.put_f64s([entry.passed, entry.normal, entry.age]);
            out.put_u32s([entry.generation, entry.fresh]);
            out.put([u8::from(entry.settled), entry.key.length]);
            out.extend_from_slice(entry.key.as_bytes());
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// Whatever [`encode`](Self::encode) of this version cannot have written; any bytes are safe.
    pub fn decode(bytes: &[u8]) -> Result<Self, MemoryError> {
        let mut reader = Reader(bytes);
        reader.magic(MAGIC)?;
        let seed = [reader.u64()?, reader.u64()?];
        let (floor, recent) = (reader.f64(0.0..=MOST)?, reader.f64(0.0..=MOST)?);
        let (look, watched) = (reader.f64(0.0..=LOOK_S)?, reader.f64(0.0..=MOST)?);
        let generation = reader.u32()?;
        let known = reader.flag()?;
        let last = Timestamp::from_nanos(reader.u64()?);
        let count = usize::from(reader.u16()?);
        if count > MAX_CALLERS {
            return Err(MemoryError::Length);
        }
        let (mut entries, mut places) = (Vec::with_capacity(count), Places::default());
        for place in 0..count {
            let entry = entry(&mut reader)?;
            if places.find(&entries, entry.hash).is_some() {
                return Err(MemoryError::Value);
            }
            // At most MAX_CALLERS entries exist, so a place fits.
            places.insert(&entries, entry.hash, place as u16);
            entries.push(entry);
        }
        reader.end()?;
        if entries.iter().filter(|entry| entry.settled).count() > SETTLED {
            return Err(MemoryError::Value);
        }
        Ok(Self {
            seed,
            entries,
            places,
            lightest: Lightest::default(),
            floor,
            recent,
            generation,
            last: known.then_some(last),
            watched,
            look,
        })
    }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, MemoryError> {
    let hash = reader.u64()?;
    let weight = reader.f64(0.0..=MOST)?;
    let (error, recent) = (reader.f64(0.0..=weight)?, reader.f64(0.0..=MOST)?);
    let passed = reader.f64(0.0..=MOST)?;
    let (normal, age) = (reader.f64(0.0..=MOST)?, reader.f64(0.0..=MOST)?);
    let (generation, fresh) = (reader.u32()?, reader.u32()?);
    let settled = reader.flag()?;
    let length = usize::from(reader.u8()?);
    if length > MAX_KEY {
        return Err(MemoryError::Length);
    }
    Ok(Entry {
        hash,
        generation,
        key: Name::of(reader.slice(length)?),
        weight,
        error,
        recent,
        passed,
        fresh,
        normal,
        age,
        settled,
    })
}
