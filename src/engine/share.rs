//! Which users are served while there is not room for all.

use alloc::vec::Vec;

use super::bytes::{MemoryError, Put, Reader};

/// After a step so many laps are not looked at: who was admitted before it is still there, and who
/// was refused tries again.
const SETTLES: u8 = 3;
/// Pressure is that more than this part of those who may come lacked a place.
const TOLERATED: f32 = 0.02;
/// What is older weighs this much less in every lap.
const FADES: f32 = 0.7;
/// When less than this part of what was refused a lap before is refused, the last step still shows.
const FALLS: f32 = 0.95;
/// A step down: at least to this part of the share, and at most.
const DOWN: f32 = 0.95;
const MOST_DOWN: f32 = 0.75;
/// A step up: at least and at most this much, to have this part of the slots in use or waited for.
const LEAST_UP: f32 = 1.02;
const MOST_UP: f32 = 1.4;
const USED: f32 = 1.06;
/// In n laps the mean is known to so many standard deviations of one lap, by the root of n; what is
/// known of the deviation moves by this part in a lap, which counts for at most so much.
const DOUBT: f32 = 2.0;
const VARIES: f32 = 0.05;
const MOST_OFF: f32 = 0.1;
const MOST_LAPS: u8 = 30;
/// It climbs to this part of the share that was too much the last time, and so much further in a lap
/// since,
const BELOW: f32 = 0.98;
const BEYOND: f32 = 0.001;
/// unless less than this part of the slots is in use, or that was so many laps ago.
const MUCH_ROOM: f32 = 0.9;
const FORGETS: u8 = 100;
/// The variance at first, as of 40 slots that are taken by chance.
const VARIANCE: f32 = 0.02;
/// Pressure after so many laps without it is not the last one's.
const ANEW: u8 = 10;
/// A step up where nobody knows how much is in use; and what it grows by in a lap when nothing is in its
/// way.
const BLIND: f32 = 1.05;
const FREELY: f32 = 1.08;
/// Where fewer come lately for each that is open, those stay for 10 s and longer.
const STAYING: f32 = 0.05;
/// More than all slots may be waited for, up to so many times as many.
const MOST_USED: f32 = 10.0;
/// Some are always served, so that it is seen when there is room again.
const LEAST: f32 = 0.02;

/// What a lap of 100 ms brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lap {
    /// A surge may be shed for.
    pub sheds: bool,
    /// A surge lasts.
    pub surge: bool,
    /// Arrivals that were not shed for the surge, and those of them that lacked a place all the same.
    pub came: u32,
    pub refused: u32,
    /// Whoever is refused is refused for another's sake, or whatever the share is.
    pub excused: bool,
    /// How many are open, and what part of the slots is in use or waited for; none where nothing
    /// limits them.
    pub open: u64,
    pub used: Option<f32>,
}

/// The share of the users that are served, from 0.02 to 1.
///
/// It moves in steps, as each is felt by the users in between: down when arrivals are refused for
/// want of what everybody may have, and up when slots are free. After a step three laps of 100 ms
/// pass before anything is looked at, since who was admitted or refused before it still shows.
///
/// **Down**: when more than 2 % of those who may come are refused, it becomes `0.95 · (1 − f⁴)` of
/// itself, at least 0.75, where f is the part that was refused: clients try again, up to three times
/// is usual, so that what is too much shows three times. While fewer are refused from lap to lap, the
/// last step is still at work, and there is no other. It falls only while a surge may be shed for,
/// or while it is below 1 already.
///
/// **Up**, by 1.02 to 1.4: to have 1.06 of the slots in use or waited for, by the mean since the
/// last step and what chance hides in so few laps, two standard deviations by √laps: so much room is
/// noticed at once, and little after a while. It does not climb above 0.98 of the share that was too
/// much the last time, and 0.01 of it more a second, unless that was 10 s ago or a tenth is free.
///
/// Where no slot is limited, a step up is 1.05.
///
/// **Freely**, by 1.08 in a lap, when nothing is in its way: the surge is over, so it reopens in steps
/// and steps back when trouble returns; a culprit is known and cut, so that nobody else need suffer;
/// the upstream serves nobody, so no share is small enough; or those who may come are all there and
/// stay for long, so that what is in use says nothing of who comes next.
///
/// A user is served by [`serves`] while its hash is below the share, so those who are served stay
/// the same: partial service, and not everybody flapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    part: f32,
    /// The share at which there was pressure the last time; 1 when that is not known.
    top: f32,
    /// Since the last step: who came and who was refused, fading, and the mean of what was in use.
    came: f32,
    refused: f32,
    used: f32,
    /// The part that was refused, as of the lap before.
    before: f32,
    /// The variance of what is in use in a lap.
    varies: f32,
    /// Laps since the last step, and since the last pressure, saturating.
    step: u8,
    quiet: u8,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            part: 1.0,
            top: 1.0,
            came: 0.0,
            refused: 0.0,
            used: 0.0,
            before: 0.0,
            varies: VARIANCE,
            step: SETTLES,
            quiet: u8::MAX,
        }
    }
}

impl Share {
    pub const fn get(self) -> f32 {
        self.part
    }

    /// Takes one lap.
    pub fn lap(&mut self, lap: &Lap) {
        self.step = self.step.saturating_add(1);
        self.quiet = self.quiet.saturating_add(1);
        if !lap.surge || lap.excused {
            self.top = 1.0;
        }
        let factor = if lap.excused || !lap.surge && lap.refused == 0 {
            FREELY
        } else if self.step > SETTLES {
            self.look(lap)
        } else {
            1.0
        };
        let part = (self.part * factor).clamp(LEAST, 1.0);
        if part != self.part {
            (self.part, self.step, self.came, self.refused) = (part, 0, 0.0, 0.0);
        }
    }

    /// What to make of the share after another lap since the last step.
    fn look(&mut self, lap: &Lap) -> f32 {
        let refused = lap.refused as f32;
        self.refused = self.refused * FADES + refused;
        self.came = self.came * FADES + refused.max(lap.came as f32);
        let laps = f32::from((self.step - SETTLES).min(MOST_LAPS));
        let used = lap.used.unwrap_or(0.0).clamp(0.0, MOST_USED);
        if laps > 1.0 {
            let off = used - self.used;
            self.varies += VARIES * ((off * off).min(MOST_OFF) - self.varies);
        }
        self.used += (used - self.used) / laps;

        let refused = self.refused / self.came.max(1.0);
        let falls = refused < FALLS * core::mem::replace(&mut self.before, refused);
        if refused > TOLERATED && (lap.sheds || self.part < 1.0) {
            // It had climbed until here.
            if self.quiet > ANEW && self.part < 1.0 {
                self.top = self.part;
            }
            self.quiet = 0;
            if falls && self.part < 1.0 {
                return 1.0;
            }
            let squared = refused * refused;
            return (DOWN * (1.0 - squared * squared)).max(MOST_DOWN);
        }
        if lap.used.is_none() {
            return BLIND;
        }
        if self.came < STAYING * lap.open as f32 {
            self.top = 1.0;
            self.part = (self.part * FREELY).min(1.0);
            return 1.0;
        }
        let used = self.used + DOUBT * libm::sqrtf(self.varies / laps);
        if self.quiet > FORGETS || used < MUCH_ROOM {
            self.top = 1.0;
        }
        let most = if self.top < 1.0 {
            let below = BELOW + BEYOND * f32::from(self.quiet);
            (below * self.top / self.part).clamp(1.0, MOST_UP)
        } else {
            MOST_UP
        };
        let factor = (USED / used).clamp(1.0, most);
        if factor < LEAST_UP { 1.0 } else { factor }
    }

    pub fn encode(self, out: &mut Vec<u8>) {
        let Self {
            part,
            top,
            came,
            refused,
            used,
            before,
            varies,
            step,
            quiet,
        } = self;
        for number in [part, top, came, refused, used, before, varies] {
            out.put(number.to_le_bytes());
        }
        out.put([step, quiet]);
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        /// More than a lap of [`u32::MAX`] leaves behind.
        const MANY: f32 = 1e11;
        Ok(Self {
            part: bytes.f32(LEAST..=1.0)?,
            top: bytes.f32(LEAST..=1.0)?,
            came: bytes.f32(0.0..=MANY)?,
            refused: bytes.f32(0.0..=MANY)?,
            used: bytes.f32(0.0..=MOST_USED)?,
            before: bytes.f32(0.0..=1.0)?,
            varies: bytes.f32(0.0..=MOST_OFF)?,
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

    /// So many came and lacked a place, and so much is in use.
    fn lap(sheds: bool, surge: bool, came: u32, refused: u32, used: f32) -> Lap {
        Lap {
            sheds,
            surge,
            came,
            refused,
            used: Some(used),
            ..Lap::default()
        }
    }

    fn laps(share: &mut Share, many: usize, lap: &Lap) {
        (0..many).for_each(|_| share.lap(lap));
    }

    #[test]
    fn it_falls_in_a_surge_alone_and_reopens_in_steps() {
        let mut share = Share::default();
        share.lap(&lap(false, true, 20, 10, 1.0));
        assert_eq!(share.get(), 1.0, "nothing may be shed");
        laps(&mut share, 13, &lap(true, true, 20, 16, 1.0));
        assert!((share.get() - 0.316).abs() < 0.01, "{share:?}");
        laps(&mut share, 4, &lap(false, false, 20, 16, 1.0));
        assert!(share.get() < 0.25, "trouble that returns is a step back");
        let calm = lap(false, false, 20, 0, 0.5);
        let mut laps = 0;
        while share.get() < 1.0 {
            share.lap(&calm);
            laps += 1;
        }
        assert_eq!(laps, 19);
    }

    #[test]
    fn a_refusal_now_and_then_is_no_pressure() {
        let mut share = Share::default();
        laps(&mut share, 40, &lap(true, true, 100, 1, 1.0));
        assert_eq!(share.get(), 1.0);
    }

    #[test]
    fn once_it_is_known_what_is_too_much_the_same_users_stay_in() {
        let mut share = Share::default();
        // There is room for six in ten, which is told two laps late.
        let mut late = [(0, 1.0); 2];
        let (mut least, mut most) = (1.0_f32, 0.0_f32);
        for turn in 0..600 {
            let (refused, used) = late[turn % 2];
            share.lap(&lap(true, true, 100, refused, used));
            let load = share.get() / 0.6;
            late[turn % 2] = (((load - 1.0).max(0.0) * 100.0) as u32, load);
            if turn > 30 {
                (least, most) = (least.min(share.get()), most.max(share.get()));
            }
        }
        assert!(least > 0.5 && most < 0.64, "{least} to {most}");
    }

    #[test]
    fn it_stays_below_what_was_too_much_until_that_is_long_ago_or_much_is_free() {
        let begin = || {
            let mut share = Share::default();
            laps(&mut share, 5, &lap(true, true, 100, 90, 1.0));
            laps(&mut share, 20, &lap(true, true, 100, 0, 1.05));
            share.lap(&lap(true, true, 100, 50, 1.05));
            share
        };
        let top = begin().top;
        assert!(top < 1.0, "{:?}", begin());
        let mut share = begin();
        laps(&mut share, 19, &lap(true, true, 100, 0, 0.95));
        assert!(share.get() <= top, "{share:?}");
        laps(&mut share, 80, &lap(true, true, 100, 0, 0.95));
        assert!(share.get() <= 1.09 * top, "{share:?}");
        laps(&mut share, 60, &lap(true, true, 100, 0, 0.95));
        assert!(share.get() > 1.1 * top, "it is long ago; {share:?}");
        let mut share = begin();
        laps(&mut share, 19, &lap(true, true, 100, 0, 0.5));
        assert!(share.get() > 1.1 * top, "much is free; {share:?}");
    }

    #[test]
    fn where_there_is_much_room_it_climbs_fast() {
        let mut share = Share::default();
        laps(&mut share, 100, &lap(true, true, 20, 20, 1.0));
        assert_eq!(share.get(), LEAST);
        let free = lap(true, true, 20, 0, 0.1);
        let laps = (1..200).find(|_| {
            share.lap(&free);
            share.get() >= 1.0
        });
        assert_eq!(laps, Some(55));
    }

    #[test]
    fn where_no_slot_is_limited_it_climbs_slowly() {
        let mut share = Share::default();
        laps(&mut share, 9, &lap(true, true, 20, 20, 1.0));
        let before = share.get();
        let blind = Lap {
            used: None,
            ..lap(true, true, 20, 0, 0.0)
        };
        laps(&mut share, 40, &blind);
        assert!((1.5..1.8).contains(&(share.get() / before)), "{share:?}");
    }

    #[test]
    fn where_all_are_there_and_stay_it_climbs_although_the_slots_are_in_use() {
        let mut share = Share::default();
        laps(&mut share, 9, &lap(true, true, 20, 20, 1.0));
        let before = share.get();
        let stay = Lap {
            open: 300,
            ..lap(true, true, 0, 0, 1.0)
        };
        laps(&mut share, 20, &stay);
        assert!(share.get() > 2.0 * before, "{share:?}");
    }

    #[test]
    fn nobody_suffers_for_a_culprit_that_is_cut() {
        let mut share = Share::default();
        laps(&mut share, 9, &lap(true, true, 20, 20, 1.0));
        let excused = Lap {
            excused: true,
            ..lap(true, true, 20, 20, 1.0)
        };
        laps(&mut share, 20, &excused);
        assert_eq!(share.get(), 1.0);
    }

    #[test]
    fn it_never_closes() {
        let mut share = Share::default();
        laps(&mut share, 10_000, &lap(true, true, 20, 20, 1.0));
        assert_eq!(share.get(), LEAST);
    }

    proptest! {
        #[test]
        fn it_is_a_share_whatever_comes_and_can_be_read_again(
            all in proptest::collection::vec(
                (any::<[bool; 3]>(), any::<[u32; 2]>(), any::<u64>(), any::<Option<f32>>()),
                0..300,
            ),
        ) {
            let mut share = Share::default();
            for ([sheds, surge, excused], [came, refused], open, used) in all {
                share.lap(&Lap { sheds, surge, came, refused, excused, open, used });
                prop_assert!((LEAST..=1.0).contains(&share.get()));
                let mut bytes = Vec::new();
                share.encode(&mut bytes);
                prop_assert_eq!(Share::read(&mut Reader(&bytes)).ok(), Some(share));
            }
        }

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
