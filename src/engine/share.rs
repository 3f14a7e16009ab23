//! Which users are served while there is not room for all.

use alloc::vec::Vec;

use super::bytes::{MemoryError, Put, Reader};

/// What the share does in a lap of 100 ms: under pressure, in a surge without it, and afterwards, or
/// where there is much room.
const UNDER_PRESSURE: f32 = 0.9;
const IN_SURGE: f32 = 1.03;
const AFTERWARDS: f32 = 1.08;
/// The same above this part of the share that was too much the last time.
const PROBING: f32 = 1.003;
const NEAR: f32 = 0.95;
/// So many laps pass until a step down shows: who is held by then still waits in vain.
const SHOWS: u8 = 3;
/// After so many laps without pressure it is not known any more what is too much.
const FORGETS: u8 = 30;
/// Some are always served, so that it is seen when there is room again.
const LEAST: f32 = 0.02;

/// The share of the users that are served, from 0.02 to 1.
///
/// In a lap of 100 ms it becomes 0.9 of itself under pressure, and otherwise 1.03 times in a surge
/// and 1.08 times after it; pressure is that an arrival was refused for want of what everybody may
/// have. Near the share at which there was pressure the last time it climbs by 0.003 a lap alone, as
/// each swing is felt by all users in between; and then it waits three laps for a step to show. After
/// 3 s without pressure that share is forgotten, and where more than a fourth of the slots is free it
/// does not count. While the upstream serves nobody, pressure is none: no share is small enough then,
/// and all come back at once when it works again. It falls only while a surge may be shed for, or while it is below 1 already: so it reopens
/// in steps, and steps back when trouble returns.
///
/// A user is served by [`serves`] while its hash is below the share, so those who are served stay
/// the same: partial service, and not everybody flapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    part: f32,
    /// The share at which there was pressure the last time; 1 when that is not known.
    top: f32,
    /// Laps since the last step down, and since the last pressure, saturating.
    step: u8,
    quiet: u8,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            part: 1.0,
            top: 1.0,
            step: u8::MAX,
            quiet: u8::MAX,
        }
    }
}

impl Share {
    pub const fn get(self) -> f32 {
        self.part
    }

    /// Takes one lap; `room`: whether many slots are free, and nobody waits for one.
    pub fn lap(&mut self, sheds: bool, surge: bool, pressure: bool, room: bool) {
        self.step = self.step.saturating_add(1);
        let factor = if pressure && (sheds || self.part < 1.0) {
            self.under_pressure()
        } else {
            self.quiet = self.quiet.saturating_add(1);
            if self.quiet >= FORGETS || !surge {
                self.top = 1.0;
            }
            if !surge || room {
                AFTERWARDS
            } else if self.top < 1.0 && self.part > NEAR * self.top {
                PROBING
            } else {
                IN_SURGE
            }
        };
        self.part = (self.part * factor).clamp(LEAST, 1.0);
    }

    fn under_pressure(&mut self) -> f32 {
        // It had climbed until here.
        if self.quiet >= SHOWS && self.part < 1.0 {
            self.top = self.part;
        }
        self.quiet = 0;
        if self.top < 1.0 && self.step < SHOWS {
            return 1.0;
        }
        self.step = 0;
        UNDER_PRESSURE
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        out.put(self.part.to_le_bytes());
        out.put(self.top.to_le_bytes());
        out.put([self.step, self.quiet]);
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            part: bytes.f32(LEAST..=1.0)?,
            top: bytes.f32(LEAST..=1.0)?,
            step: bytes.u8()?,
            quiet: bytes.u8()?,
        })
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
        share.lap(false, true, true, false);
        assert_eq!(share.get(), 1.0, "nothing may be shed");
        for _ in 0..10 {
            share.lap(true, true, true, false);
        }
        assert!((share.get() - 0.349).abs() < 0.001);
        share.lap(false, false, true, false);
        assert!(share.get() < 0.32, "trouble that returns is a step back");
        let mut laps = 0;
        while share.get() < 1.0 {
            share.lap(false, false, false, false);
            laps += 1;
        }
        assert_eq!(laps, 16);
    }

    #[test]
    fn once_it_is_known_what_is_too_much_the_same_users_stay_in() {
        let mut share = Share::default();
        // There is room for six in ten, which is told two laps late.
        let mut late = [false; 2];
        let (mut least, mut most) = (1.0_f32, 0.0_f32);
        for lap in 0..600 {
            share.lap(true, true, late[lap % 2], false);
            late[lap % 2] = share.get() > 0.6;
            if lap > 100 {
                (least, most) = (least.min(share.get()), most.max(share.get()));
            }
        }
        assert!(least > 0.5 && most < 0.63, "{least} to {most}");
    }

    #[test]
    fn where_there_is_much_room_it_climbs_fast() {
        let mut share = Share::default();
        for _ in 0..100 {
            share.lap(true, true, true, false);
        }
        let laps = (1..200).find(|_| {
            share.lap(true, true, false, true);
            share.get() >= 1.0
        });
        assert_eq!(laps, Some(51));
    }

    #[test]
    fn it_never_closes() {
        let mut share = Share::default();
        for _ in 0..10_000 {
            share.lap(true, true, true, false);
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
