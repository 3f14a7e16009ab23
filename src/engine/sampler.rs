//! Which of many events are looked at.

/// In one lap so many events are each looked at, where nothing is said; of 16 times as many more one in
/// 16, and of the others one in 128.
const EACH: u32 = 8;

/// Which events are looked at where each look costs something: all of a few, and of many a sample
/// that grows slowly.
///
/// The weights of those that are looked at add up to the number of all, to less than 16 + 128.
/// With the first `e` of a lap each looked at, of `n` at most `e + n/16` are up to `17 e`, and `2 e + n/128`
/// beyond. Cost: an increment and a comparison.
///
/// Weak: who comes in step with the sample is seen too often, or never, beyond the first of a lap.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    each: u32,
    lap: u32,
    /// How many were passed over since the last look, in the second part of laps and in the third.
    passed: [u8; 2],
}

impl Default for Sampler {
    /// The first 8 of a lap are each looked at.
    fn default() -> Self {
        Self::of(EACH)
    }
}

impl Sampler {
    /// The first so many of a lap are each looked at.
    pub const fn of(each: u32) -> Self {
        Self {
            each,
            lap: 0,
            passed: [0; 2],
        }
    }

    /// For how many events the next one stands; 0: it is passed over.
    #[inline]
    pub fn weight(&mut self) -> u8 {
        self.lap = self.lap.saturating_add(1);
        if self.lap <= self.each {
            return 1;
        }
        let [some, rest] = &mut self.passed;
        let (passed, one_in) = if self.lap <= self.each.saturating_mul(17) {
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
