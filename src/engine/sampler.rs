//! Which of many events are looked at.

/// In one lap so many events are each looked at, so many more one in 16, and the others one in 128.
const EACH: u32 = 8;
const ONE_IN_16: u32 = 128;

/// Which events are looked at where each look costs something: all of a few, and of many a sample
/// that grows slowly.
///
/// The weights of those that are looked at add up to the number of all, to less than 16 + 128.
/// Of `n` events a lap, at most `8 + n/16` are looked at up to 136, and `16 + n/128` beyond. Cost: an
/// increment and a comparison.
///
/// Weak: who comes in step with the sample is seen too often, or never, beyond the first of a lap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampler {
    lap: u32,
    /// How many were passed over since the last look, in the second part of laps and in the third.
    passed: [u8; 2],
}

impl Sampler {
    /// For how many events the next one stands; 0: it is passed over.
    #[inline]
    pub fn weight(&mut self) -> u8 {
        self.lap = self.lap.saturating_add(1);
        if self.lap <= EACH {
            return 1;
        }
        let [some, rest] = &mut self.passed;
        let (passed, one_in) = if self.lap <= EACH + ONE_IN_16 {
            (some, 16)
        } else {
            (rest, 128)
        };
        *passed += 1;
        if *passed < one_in {
            return 0;
        }
        *passed = 0;
        one_in
    }

    /// A lap of 100 ms is over.
    pub fn lap(&mut self) {
        self.lap = 0;
    }
}
