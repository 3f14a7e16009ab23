//! Which users are served while there is not room for all.

use alloc::vec::Vec;

use super::bytes::{MemoryError, Put, Reader};

/// What the share does in a lap of 100 ms: under pressure, in a surge without it, and afterwards.
const UNDER_PRESSURE: f32 = 0.9;
const IN_SURGE: f32 = 1.03;
const AFTERWARDS: f32 = 1.08;
/// Some are always served, so that it is seen when there is room again.
const LEAST: f32 = 0.02;

/// The share of the users that are served, from 0.02 to 1.
///
/// In a lap of 100 ms it becomes 0.9 of itself under pressure, and otherwise 1.03 times in a surge
/// and 1.08 times after it; pressure is that an arrival was refused for want of what everybody may
/// have. It falls only while a surge may be shed for, or while it is below 1 already: so it reopens
/// in steps, and steps back when trouble returns.
///
/// A user is served by [`serves`] while its hash is below the share, so those who are served stay
/// the same: partial service, and not everybody flapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(f32);

impl Default for Share {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Share {
    pub const fn get(self) -> f32 {
        self.0
    }

    /// Takes one lap.
    pub fn lap(&mut self, sheds: bool, surge: bool, pressure: bool) {
        let factor = if pressure && (sheds || self.0 < 1.0) {
            UNDER_PRESSURE
        } else if surge {
            IN_SURGE
        } else {
            AFTERWARDS
        };
        self.0 = (self.0 * factor).clamp(LEAST, 1.0);
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        out.put(self.0.to_le_bytes());
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self(bytes.f32(LEAST..=1.0)?))
    }
}

/// Whether a user is served while `share` of them are. `user` is a hash that the user cannot choose.
///
/// By priority: 0 is always served, 1 by the share, 2 by its square, and so on; so what is served
/// last is shed first.
pub fn serves(share: f32, priority: u8, user: u64) -> bool {
    let share = (0..priority).fold(1.0, |share_so_far, _| share_so_far * share);
    // The 24 upper bits are exact in an f32.
    (user >> 40) as f32 / (1_u32 << 24) as f32 <= share && share > 0.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn it_falls_in_a_surge_alone_and_reopens_in_steps() {
        let mut share = Share::default();
        share.lap(false, true, true);
        assert_eq!(share.get(), 1.0, "nothing may be shed");
        for _ in 0..10 {
            share.lap(true, true, true);
        }
        assert!((share.get() - 0.349).abs() < 0.001);
        share.lap(false, false, true);
        assert!(share.get() < 0.32, "trouble that returns is a step back");
        let mut laps = 0;
        while share.get() < 1.0 {
            share.lap(false, false, false);
            laps += 1;
        }
        assert_eq!(laps, 16);
    }

    #[test]
    fn it_never_closes() {
        let mut share = Share::default();
        for _ in 0..10_000 {
            share.lap(true, true, true);
        }
        assert_eq!(share.get(), LEAST);
    }

    proptest! {
        #[test]
        fn who_is_served_stays_served_when_the_share_grows(
            user in any::<u64>(), share in 0.0_f32..1.0, more in 0.0_f32..1.0, priority in 0_u8..5,
        ) {
            let larger = (share + more).min(1.0);
            prop_assert!(!serves(share, priority, user) || serves(larger, priority, user));
            prop_assert!(!serves(share, priority + 1, user) || serves(share, priority, user));
            prop_assert!(serves(1.0, priority, user) && serves(share, 0, user));
        }
    }
}
