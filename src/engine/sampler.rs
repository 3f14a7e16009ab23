//! Which of many events are looked at.

/// In one lap so many events are each looked at, so many more one in eight, and the others one in
/// sixty-four.
const EACH: u32 = 16;
const ONE_IN_8: u32 = 128;

/// Which events are looked at where each look costs something: all of a few, and of many a sample
/// that grows slowly.
///
/// The weights of those that are looked at add up to the number of all, to less than 8 + 64. Of
/// `n` events a lap, at most `16 + n/8` are looked at up to 144, and `32 + n/64` beyond. Cost: an
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
        let [eighth, rest] = &mut self.passed;
        let (passed, one_in) = if self.lap <= EACH + ONE_IN_8 {
            (eighth, 8)
        } else {
            (rest, 64)
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
