//! Random numbers that a seed repeats (SplitMix64).

#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..sides`.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides.max(1)
    }

    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        // Longer ones repeat themselves, for these are made often, and by code that is not optimized.
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length.min(4096) {
            bytes.extend_from_slice(&self.roll().to_le_bytes());
        }
        while bytes.len() < length {
            let more = bytes.len().min(length - bytes.len());
            bytes.extend_from_within(..more);
        }
        bytes.truncate(length);
        bytes
    }
}
