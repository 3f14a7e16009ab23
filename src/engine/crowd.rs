//! Who normally has how many slots, over all workers.

use alloc::vec::Vec;

use super::{
    bytes::{MemoryError, Put, Reader},
    places::{Hashed, Places},
};

/// At most this many callers are known by themselves; the others are known together.
pub const MAX_SEATS: usize = 64;

/// The time constant of what is normal, in s; a plain mean until the record is that old.
const NORMAL_S: f32 = 300.0;
/// The same, when slots have been short for longer than [`SHORT_LAPS`].
const SLOW_S: f32 = 1800.0;
/// Nothing is learned for so many laps of 100 ms in which slots are short.
const SHORT_LAPS: u32 = 3000;
/// A record that has learned less than so many laps goes on when slots are short.
const YOUNG: u32 = 300;
/// They are short for so many laps after somebody lacked one: those who were refused come back.
const STILL_SHORT: u32 = 50;
/// The time constant of whether a caller is there at all, in s.
const THERE_S: f32 = 10.0;
/// A caller that normally has less than this open is one of the rest.
const LEAST: f32 = 0.05;
/// A seat of a caller that normally has less than this may be given to another.
const VACANT: f32 = 0.02;
/// How many standard deviations above the mean are normal.
const SIGMAS: f32 = 3.0;
/// The variance is at least this part of the mean; Poisson's would be 1.
const DISPERSION: f32 = 0.25;
/// No mean is above this.
const MOST: f32 = 1e9;
/// A gap between two laps counts for this many at most.
const GAP_LAPS: u64 = 600;

/// What is normal of something that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Normal {
    mean: f32,
    variance: f32,
    /// A quick mean.
    there: f32,
    /// So many slots are normal.
    entitled: u32,
}

impl Normal {
    /// Takes what is open in a lap; what is above its mean and above `most` is not learned.
    fn learn(&mut self, open: u32, share: f32, there: f32, most: f32) {
        let open = open as f32;
        self.there = (self.there + there * (open - self.there)).clamp(0.0, MOST);
        let off = open.min(most.max(self.mean)) - self.mean;
        self.mean = (self.mean + share * off).clamp(0.0, MOST);
        let sample = (1.0 - share) * off * off;
        self.variance = (self.variance + share * (sample - self.variance)).clamp(0.0, MOST);
        self.entitled = if self.mean < LEAST {
            0
        } else {
            libm::ceilf(self.mean + self.margin()) as u32
        };
    }

    /// How far above its mean is normal still; never more than the mean and three.
    fn margin(&self) -> f32 {
        let deviation = libm::sqrtf(self.variance.max(DISPERSION * self.mean));
        (SIGMAS * deviation).min(self.mean + 3.0)
    }

    /// From 0, when nothing has been open for long, to 1.
    fn presence(&self) -> f32 {
        (2.0 * self.there / self.mean.max(LEAST)).min(1.0)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.mean, self.variance, self.there] {
            out.put(number.to_le_bytes());
        }
        out.put(self.entitled.to_le_bytes());
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            mean: bytes.f32(0.0..=MOST)?,
            variance: bytes.f32(0.0..=MOST)?,
            there: bytes.f32(0.0..=MOST)?,
            entitled: bytes.u32()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seat {
    caller: u64,
    normal: Normal,
}

/// What callers normally have open, and what that leaves to those who want more.
///
/// For each of up to 64 callers, and for all the others together (the rest), over laps of 100 ms:
/// - `mean` and `variance` of what it has open over all workers: exponential over 300 s, and plain
///   until the record is that old, so that a new Envoy knows after seconds who is normal, and a
///   newcomer to an old one needs minutes.
/// - it is *entitled* to `mean + min(3·sd, mean + 3)` slots, with `variance ≥ mean/4`; whoever has
///   a mean below 0.05 is one of the rest.
///
/// A caller that has all that it is entitled to may take more only while
///
/// `open + (N + min(3·S, (limit − N)/2) − U) < limit`
///
/// where `N` and `S²` are the sums of the means and variances of all *others*, and `U` is what they
/// have open of what they are entitled to: so what they may still need stays free for them. A
/// newcomer with 300 connections never takes a slot that a steady caller gave back and needs again
/// 1 ms later; and where everybody wants more, nothing is left unused. Whoever has less than a
/// twentieth of the limit is not kept from more.
///
/// A caller that is gone holds no slots back: what it counts for in `N` and `S` fades with a
/// time constant of 10 s, so that new instances can take the place of old ones; it stays entitled, though.
///
/// Whoever is entitled to what it takes is kept only from what makes up 0.9 of the others' means, and
/// only when it has a fourth of the limit; in a surge, with half of the limit, it is as if it were
/// not entitled: a flood that took an hour to grow is normal by then, and must leave room all the
/// same.
///
/// Nothing is learned in a surge, nor while slots are short or were within the last 5 s, for the
/// first 300 s of that; later slowly, over 1,800 s. So a flood does not become normal by flooding.
/// In its first 30 s the record learns also while slots are short, but no more of anyone than a
/// twentieth of what is open, and nothing of the rest: who is normal must become known, also when it
/// begins in a busy moment.
///
/// Cost: a pass over the seats a lap, and one for each arrival of a caller that is beyond what it is
/// entitled to, or has a fourth of the limit. Memory: 64 seats of 24 bytes. Weak: more than 64 busy
/// callers share the normal use of the rest, of which a single one may take a quarter; a flood that keeps below the limit is learned like anything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Crowd {
    seats: Vec<Seat>,
    rest: Normal,
    /// Laps that were seen, and those of them that were learned.
    laps: u32,
    age: u32,
    /// Laps in which slots were short, less half of those in which they were not.
    short: u32,
    /// So many more laps they are still short.
    still: u32,
    /// The number of the last lap since the epoch.
    lap: u64,
}

/// Whether a caller may have one more by what is normal for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It has all that is.
    None,
    /// It may.
    Normal,
    /// It may, and there is a surge.
    InSurge,
}

/// What callers may still need.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    mean: f64,
    variance: f64,
    /// What they have of it.
    used: u64,
}

impl Needs {
    fn of(normal: &Normal, open: u64) -> Self {
        let presence = normal.presence();
        let deviation = f64::from(presence * normal.margin() / SIGMAS);
        Self {
            mean: f64::from(presence * normal.mean),
            variance: deviation * deviation,
            used: open.min(u64::from(normal.entitled)),
        }
    }

    fn add(&mut self, more: Self) {
        self.mean += more.mean;
        self.variance += more.variance;
        self.used += more.used;
    }

    /// How many of `limit` slots are kept for them, used or not.
    fn kept(&self, limit: u64, claim: Claim) -> u64 {
        let free = (limit as f64 - self.mean).max(0.0);
        let margin = (f64::from(SIGMAS) * libm::sqrt(self.variance)).min(0.5 * free);
        // To the nearest, or a trace of somebody who is long gone would cost a whole slot.
        let needed = match claim {
            Claim::Normal => libm::floor(0.9 * self.mean) as u64,
            Claim::None | Claim::InSurge => libm::floor(self.mean + margin + 0.5) as u64,
        };
        needed.min(limit)
    }
}

/// What each of the callers with a seat has open, by its seat.
pub(crate) type Opens = [u32; MAX_SEATS];

impl Crowd {
    /// The seat of a caller.
    pub fn seat(&self, caller: u64) -> Option<u8> {
        let found = self.seats.iter().position(|seat| seat.caller == caller);
        // At most MAX_SEATS seats exist.
        found.map(|index| index as u8)
    }

    /// The seat of a caller that is being admitted; a new one, if there is any.
    pub fn take_seat(&mut self, caller: u64, opens: &Opens) -> Option<u8> {
        if let Some(seat) = self.seat(caller) {
            return Some(seat);
        }
        let new = Seat {
            caller,
            normal: Normal::default(),
        };
        if self.seats.len() < MAX_SEATS {
            self.seats.push(new);
            return Some(self.seats.len() as u8 - 1);
        }
        let seats = self.seats.iter_mut().zip(opens).enumerate();
        let (index, seat) = seats
            .filter(|(_, (seat, open))| **open == 0 && seat.normal.mean < VACANT)
            .map(|(index, (seat, _))| (index, seat))
            .min_by(|(_, a), (_, b)| a.normal.mean.total_cmp(&b.normal.mean))?;
        *seat = new;
        Some(index as u8)
    }

    /// What the callers with a seat are entitled to, and the rest.
    pub fn is_entitled(&self, seat: Option<u8>, opens: &Opens, total: u64) -> bool {
        let own = seat.and_then(|seat| {
            let index = usize::from(seat);
            Some((self.seats.get(index)?.normal.entitled, *opens.get(index)?))
        });
        match own {
            Some((entitled, open)) if entitled > 0 => open < entitled,
            _ => {
                let (entitled, open) = (u64::from(self.rest.entitled), self.rest(opens, total));
                let own = own.map_or(0, |(_, open)| u64::from(open));
                open < entitled && 4 * own < entitled.max(1)
            }
        }
    }

    /// What those have open that are not known by themselves.
    fn rest(&self, opens: &Opens, total: u64) -> u64 {
        let known = self.seats.iter().zip(opens);
        let known: u64 = known
            .filter(|(seat, _)| seat.normal.entitled > 0)
            .map(|(_, open)| u64::from(*open))
            .sum();
        total.saturating_sub(known)
    }

    /// The seat of a caller that is known by itself.
    fn known(&self, seat: Option<u8>) -> Option<usize> {
        let index = usize::from(seat?);
        let seat = self.seats.get(index)?;
        (seat.normal.entitled > 0).then_some(index)
    }

    /// How many of `limit` slots are held back from a caller, for what the others may still need.
    pub fn held_back(
        &self,
        seat: Option<u8>,
        opens: &Opens,
        total: u64,
        limit: u64,
        claim: Claim,
    ) -> u64 {
        let own = self.known(seat);
        let rest = self.rest(opens, total);
        let own_open = own.map_or(rest, |own| u64::from(opens.get(own).copied().unwrap_or(0)));
        let exempt = match claim {
            Claim::None => (limit / 20).max(1),
            Claim::Normal => (limit / 4).max(1),
            Claim::InSurge => (limit / 2).max(1),
        };
        if own_open < exempt {
            return 0;
        }
        let mut needs = Needs::default();
        if own.is_some() {
            needs.add(Needs::of(&self.rest, rest));
        }
        for (index, (seat, open)) in self.seats.iter().zip(opens).enumerate() {
            if seat.normal.entitled > 0 && own != Some(index) {
                needs.add(Needs::of(&seat.normal, u64::from(*open)));
            }
        }
        needs.kept(limit, claim).saturating_sub(needs.used)
    }

    /// No less than is [held back](Self::held_back) from anybody, whoever it is.
    pub fn most_held_back(&self, opens: &Opens, total: u64, limit: u64) -> u64 {
        let seats = self.seats.iter().zip(opens);
        let known = seats.filter(|(seat, _)| seat.normal.entitled > 0);
        let known = known.map(|(seat, open)| Needs::of(&seat.normal, u64::from(*open)));
        let rest = Needs::of(&self.rest, self.rest(opens, total));
        let each = known.chain([rest]);
        let mut all = Needs::default();
        each.clone().for_each(|needs| all.add(needs));
        let most = each.map(|own| {
            let others = Needs {
                mean: (all.mean - own.mean).max(0.0),
                variance: (all.variance - own.variance).max(0.0),
                used: all.used - own.used,
            };
            let kept = others.kept(limit, Claim::None);
            kept.saturating_sub(others.used)
        });
        // Differences of sums are not to the last digit what the sums of the others are.
        most.max().unwrap_or(0).saturating_add(1)
    }

    /// Whether `now`'s lap of 100 ms is not the one that was learned last; it begins with the first
    /// that is open.
    pub fn is_due(&self, now_ms: u64, total: u64) -> bool {
        now_ms / 100 != self.lap && (self.age > 0 || total > 0)
    }

    /// Takes one lap: what each seat and all together have open, whether slots are short, and
    /// whether there is a surge.
    pub fn learn(&mut self, now_ms: u64, opens: &Opens, total: u64, short: bool, surge: bool) {
        let lap = now_ms / 100;
        // A clock that stepped back costs one lap.
        let passed = lap.saturating_sub(self.lap).clamp(1, GAP_LAPS);
        let passed = if self.age == 0 { 1 } else { passed as u32 };
        self.lap = lap;
        self.still = if short {
            STILL_SHORT
        } else {
            self.still.saturating_sub(passed)
        };
        let short = self.still > 0;
        self.short = if short {
            self.short.saturating_add(passed)
        } else {
            self.short.saturating_sub(passed.div_ceil(2))
        };
        self.laps = self.laps.saturating_add(passed);
        let seconds = (self.laps as f32 * 0.1).min(THERE_S);
        let there = (passed as f32 * 0.1 / seconds).min(1.0);
        let share = if surge {
            0.0
        } else if !short || self.age < YOUNG {
            self.age = self.age.saturating_add(passed);
            let seconds = (self.age as f32 * 0.1).min(NORMAL_S);
            (passed as f32 * 0.1 / seconds).min(1.0)
        } else if self.short > SHORT_LAPS {
            passed as f32 * 0.1 / SLOW_S
        } else {
            0.0
        };
        let most = if short && self.short <= SHORT_LAPS {
            (total as f32 / 20.0).max(1.0)
        } else {
            MOST
        };
        for (seat, open) in self.seats.iter_mut().zip(opens) {
            seat.normal.learn(*open, share, there, most);
        }
        // Without those who have just become known.
        let rest = u32::try_from(self.rest(opens, total)).unwrap_or(u32::MAX);
        // Those who are looked at now and then are among them, too: one that comes in a flood would be
        // kept from its own.
        let share = if most < MOST { 0.0 } else { share };
        self.rest.learn(rest, share, there, MOST);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.seats.len() as u8);
        out.put_u32s([self.laps, self.age, self.short, self.still]);
        out.put(self.lap.to_le_bytes());
        self.rest.encode(out);
        for seat in &self.seats {
            out.put(seat.caller.to_le_bytes());
            seat.normal.encode(out);
        }
    }

    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let count = usize::from(bytes.u8()?);
        if count > MAX_SEATS {
            return Err(MemoryError::Length);
        }
        let mut crowd = Self {
            laps: bytes.u32()?,
            age: bytes.u32()?,
            short: bytes.u32()?,
            still: bytes.u32()?.min(STILL_SHORT),
            lap: bytes.u64()?,
            rest: Normal::decode(bytes)?,
            seats: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let caller = bytes.u64()?;
            if crowd.seat(caller).is_some() {
                return Err(MemoryError::Value);
            }
            let normal = Normal::decode(bytes)?;
            crowd.seats.push(Seat { caller, normal });
        }
        Ok(crowd)
    }
}

/// At most so many callers of one worker are told apart while they have something open.
const MAX_HERE: usize = 128;

/// What each caller has open in this worker.
///
/// A place is given back only when nothing of its caller is open any more, so whoever holds a slot
/// can name it by its place. When all places are taken, a newcomer is nobody's. Cost: one look-up,
/// however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Here {
    callers: Vec<(u64, u32)>,
    places: Places<{ 2 * MAX_HERE }>,
    /// The places of those that have nothing open.
    vacant: Vec<u8>,
}

impl Hashed for (u64, u32) {
    fn hash(&self) -> u64 {
        self.0
    }
}

impl Here {
    /// One more is open that stands for `weight`; the caller's place.
    pub fn open(&mut self, caller: u64, weight: u8) -> Option<u8> {
        let known = self.places.find(&self.callers, caller);
        // At most MAX_HERE places exist.
        let place = known.map(|place| place as u8);
        let place = place.or_else(|| self.take_place(caller))?;
        let (_, open) = self.callers.get_mut(usize::from(place))?;
        *open = open.saturating_add(u32::from(weight));
        Some(place)
    }

    /// A place for a caller that has none.
    fn take_place(&mut self, caller: u64) -> Option<u8> {
        let place = match self.vacant.pop() {
            Some(place) => place,
            None if self.callers.len() < MAX_HERE => self.callers.len() as u8,
            None => return None,
        };
        self.places.insert(&self.callers, caller, u16::from(place));
        match self.callers.get_mut(usize::from(place)) {
            Some(old) => *old = (caller, 0),
            None => self.callers.push((caller, 0)),
        }
        Some(place)
    }

    /// One is closed.
    pub fn close(&mut self, place: u8, weight: u8) {
        let Some((caller, open)) = self.callers.get_mut(usize::from(place)) else {
            return;
        };
        let was_open = *open > 0;
        *open = open.saturating_sub(u32::from(weight));
        if was_open && *open == 0 {
            let caller = *caller;
            self.places.remove(&self.callers, caller);
            self.vacant.push(place);
        }
    }

    /// The callers that have something open.
    pub fn callers(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let callers = self.callers.iter().copied();
        callers.filter(|(_, open)| *open > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn from_nobody_more_is_held_back_than_the_bound_says(
            callers in prop::collection::vec((0_u32..200, 0_u32..200, 0_u32..300), 1..=MAX_SEATS),
            rest in (0_u32..200, 0_u32..200, 0_u32..300),
            limit in 1_u64..2_000,
            laps in 1_u64..400,
        ) {
            let mut crowd = Crowd::default();
            let mut opens = [0; MAX_SEATS];
            for (index, _) in callers.iter().enumerate() {
                crowd.take_seat(index as u64, &opens);
            }
            // Each has so much open in every other lap, and so much in the others.
            for lap in 1..=laps {
                for (open, (even, odd, _)) in opens.iter_mut().zip(&callers) {
                    *open = if lap % 2 == 0 { *even } else { *odd };
                }
                let known: u32 = opens.iter().sum();
                let more = if lap % 2 == 0 { rest.0 } else { rest.1 };
                crowd.learn(lap * 100, &opens, u64::from(known + more), false, false);
            }
            for (open, (.., now)) in opens.iter_mut().zip(&callers) {
                *open = *now;
            }
            let total = u64::from(opens.iter().sum::<u32>() + rest.2);
            let bound = crowd.most_held_back(&opens, total, limit);
            let seats = (0..callers.len() as u8).map(Some).chain([None]);
            for seat in seats {
                for claim in [Claim::None, Claim::Normal, Claim::InSurge] {
                    let held_back = crowd.held_back(seat, &opens, total, limit, claim);
                    prop_assert!(held_back <= bound, "{held_back} of {seat:?}, {bound}");
                }
            }
        }
    }
}
