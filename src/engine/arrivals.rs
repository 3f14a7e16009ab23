//! The arrivals that a rule admitted of late, over all workers, and the tokens for the next ones.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    bytes::{MemoryError, Put, Reader},
    time::Timestamp,
    window::Window,
};

/// A lease of tokens may be used for this long.
pub(super) const TOKENS_LAST: Duration = Duration::from_millis(200);
/// How far ahead of the clock leased tokens are booked: longer than they last.
const AHEAD: Duration = Duration::from_millis(250);
/// The trailing second of `limits.arrivals_per_s`, and what lies ahead, in buckets of 2.5 ms: a
/// wider one would keep what is free from being used for longer.
const SPAN: Duration = Duration::from_millis(1250);
const BUCKETS: usize = 501;
const AHEAD_BUCKETS: u64 = 100;
const WIDTH: u64 = 2_500_000;

/// The admitted arrivals of the trailing second, and the tokens that workers have leased.
///
/// A leased token is booked where no use of it can be later: 250 ms ahead. So it counts for the
/// second after its use, also when its worker dies with it. When the worker says when it used
/// which, those are booked where they were used, and the others are free again.
///
/// Accuracy: never misses one, may count one that is up to 2.5 ms older than a second. Memory: 2 KiB;
/// as bytes 10 and 6 for each bucket that has something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// Its running bucket is the one that lies ahead.
    window: Window<BUCKETS>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            window: Window::new(SPAN),
        }
    }
}

impl Arrivals {
    /// The bucket of a time.
    pub(super) const fn bucket(at: Timestamp) -> u64 {
        at.as_nanos() / WIDTH
    }

    /// Those of the trailing second, and the tokens that are leased.
    pub fn at_most(&mut self, now: Timestamp) -> u64 {
        self.window.at_most(now.after(AHEAD))
    }

    /// Follows a clock that stepped back; whether it did. What is remembered counts as of then, so it
    /// must be written then, or each who reads it would begin that second anew.
    pub(super) fn steps_back(&mut self, now: Timestamp) -> bool {
        let before = self.window.head();
        self.window.add(now.after(AHEAD), 0);
        self.window.head() < before
    }

    /// When the next one is older than a second.
    pub(super) fn next_free(&self) -> Option<Timestamp> {
        let leaves = self.window.oldest()? + BUCKETS as u64 - AHEAD_BUCKETS;
        Some(Timestamp::from_nanos(leaves.saturating_mul(WIDTH)))
    }

    /// Adds some that are admitted now; not before the newest time that was told.
    pub fn add(&mut self, now: Timestamp, arrivals: u32) {
        self.window.add(now.after(AHEAD), 0);
        let newest = self.window.head().saturating_sub(AHEAD_BUCKETS);
        let bucket = Self::bucket(now).max(newest);
        self.window.add_in(bucket, arrivals);
    }

    /// Books tokens for arrivals to come; the bucket they are in.
    pub(super) fn lease(&mut self, now: Timestamp, tokens: u32) -> u64 {
        self.window.add(now.after(AHEAD), tokens);
        self.window.head()
    }

    /// Adds what belongs to a bucket, as [`bucket`](Self::bucket) or [`lease`](Self::lease) gave it.
    pub(super) fn put(&mut self, bucket: u64, events: u32) {
        self.window.add_in(bucket, events);
    }

    /// Takes out again what was put into a bucket.
    pub(super) fn take(&mut self, bucket: u64, events: u32) {
        self.window.take_from(bucket, events);
    }

    /// Appends the bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let events = self.window.buckets().iter().enumerate();
        let some = events.filter(|(_, events)| **events > 0);
        out.put(self.window.head().to_le_bytes());
        // There are less than 65,536 buckets.
        out.put((some.clone().count() as u16).to_le_bytes());
        for (place, events) in some {
            out.put((place as u16).to_le_bytes());
            out.put(events.to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let head = bytes.u64()?;
        let mut buckets = [0; BUCKETS];
        for _ in 0..bytes.u16()? {
            let place = usize::from(bytes.u16()?);
            let bucket = buckets.get_mut(place).ok_or(MemoryError::Value)?;
            *bucket = bytes.u32()?;
        }
        Ok(Self {
            window: Window::from_parts(SPAN, head, buckets),
        })
    }
}

const _: () = {
    assert!(BUCKETS < 65_536);
    assert!(AHEAD.as_nanos() == AHEAD_BUCKETS as u128 * WIDTH as u128);
    assert!(SPAN.as_nanos() == (BUCKETS as u128 - 1) * WIDTH as u128);
    assert!(TOKENS_LAST.as_nanos() < AHEAD.as_nanos());
};

/// Tokens that this worker took and that it may use without asking.
///
/// Memory: one number for each 2.5 ms in which some were used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Those that are left.
    left: u32,
    /// When they were taken.
    drawn: Timestamp,
    /// As the record knows them.
    pub booked: Booking,
    /// When the others were used: in which bucket how many.
    used: Vec<(u64, u32)>,
    /// There were none, and until then it is not asked again.
    dry: Option<Timestamp>,
}

/// Tokens as they are booked: in which bucket how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Booking {
    pub bucket: u64,
    pub tokens: u32,
}

impl Tokens {
    /// Uses one, if there is one that lasts.
    pub fn take(&mut self, now: Timestamp) -> bool {
        if self.left == 0 || !self.lasts(now) {
            return false;
        }
        self.left -= 1;
        let bucket = Arrivals::bucket(now);
        match self.used.last_mut() {
            Some((last, events)) if *last == bucket => *events += 1,
            _ => self.used.push((bucket, 1)),
        }
        true
    }

    fn lasts(&self, now: Timestamp) -> bool {
        now >= self.drawn && now.since(self.drawn) < TOKENS_LAST
    }

    /// Says when which were used, and gives the others back. `known`: what the record knows of them.
    ///
    /// When that is something else, the record was begun anew since, and they are not in it.
    pub fn settle(&self, known: Option<Booking>, arrivals: &mut Arrivals) -> Self {
        let is_known = known == Some(self.booked);
        if is_known {
            arrivals.take(self.booked.bucket, self.booked.tokens);
        }
        for (bucket, events) in &self.used {
            arrivals.put(*bucket, *events);
        }
        Self {
            left: if is_known { self.left } else { 0 },
            booked: Booking::default(),
            used: Vec::new(),
            ..*self
        }
    }

    /// After [`settle`](Self::settle): books those again that are left and last still.
    pub fn keep(&mut self, now: Timestamp, arrivals: &mut Arrivals, bucket: u64) {
        if !self.lasts(now) {
            self.left = 0;
        }
        if self.left > 0 {
            arrivals.put(bucket, self.left);
            self.booked = Booking {
                bucket,
                tokens: self.left,
            };
        }
    }

    /// After [`settle`](Self::settle): takes new ones instead of those that are left.
    pub fn draw(&mut self, now: Timestamp, tokens: u32, arrivals: &mut Arrivals) {
        self.left = tokens;
        self.drawn = now;
        self.dry = None;
        if tokens > 0 {
            self.booked = Booking {
                bucket: arrivals.lease(now, tokens),
                tokens,
            };
        }
    }

    /// After [`settle`](Self::settle): has none.
    pub fn forget(&mut self) {
        self.left = 0;
    }

    /// Whether it is too early to ask again.
    pub fn is_dry(&self, now: Timestamp) -> bool {
        // A clock that stepped back makes nobody wait.
        self.dry
            .is_some_and(|until| now < until && until.since(now) <= LONGEST_WAIT)
    }

    /// There are none; `workers` share `limit` a second, and the next one is free at `next` if nobody
    /// gives any back before.
    pub fn run_dry(&mut self, now: Timestamp, workers: u64, limit: u32, next: Option<Timestamp>) {
        let share = Duration::from_millis(500 * workers / u64::from(limit.max(1)));
        let next = next.map_or(Duration::ZERO, |next| next.since(now));
        let wait = share.max(next).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        self.dry = Some(now.after(wait));
    }
}

/// Bounds of the time for which a worker that found no token does not ask again.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(16);

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    #[test]
    fn leased_tokens_count_for_a_second_after_their_last_use_could_be() {
        let mut arrivals = Arrivals::default();
        let mut tokens = Tokens::default();
        tokens.draw(at(0), 3, &mut arrivals);
        assert!(tokens.take(at(199)) && !tokens.take(at(200)));
        assert_eq!(arrivals.at_most(at(1_199)), 3);
        assert_eq!(arrivals.at_most(at(1_256)), 0);
    }

    #[test]
    fn used_tokens_count_from_their_use_and_the_others_are_free_again() {
        let mut arrivals = Arrivals::default();
        let mut tokens = Tokens::default();
        tokens.draw(at(0), 10, &mut arrivals);
        assert!(tokens.take(at(20)) && tokens.take(at(21)) && tokens.take(at(40)));
        let mut left = tokens.settle(Some(tokens.booked), &mut arrivals);
        assert_eq!(arrivals.at_most(at(50)), 3);
        left.keep(at(50), &mut arrivals, tokens.booked.bucket);
        assert_eq!(arrivals.at_most(at(50)), 10);
        let left = left.settle(Some(left.booked), &mut arrivals);
        assert_eq!(left.booked, Booking::default());
        assert_eq!(arrivals.at_most(at(1_022)), 3);
        assert_eq!(arrivals.at_most(at(1_023)), 1);
        assert_eq!(arrivals.at_most(at(1_045)), 0);
    }

    #[test]
    fn tokens_that_the_record_does_not_know_take_nothing_out_of_it() {
        let mut other = Arrivals::default();
        let mut tokens = Tokens::default();
        tokens.draw(at(0), 10, &mut other);
        assert!(tokens.take(at(1)));
        let mut arrivals = Arrivals::default();
        arrivals.lease(at(0), 5);
        let mut left = tokens.settle(None, &mut arrivals);
        assert_eq!(arrivals.at_most(at(10)), 6);
        assert!(!left.take(at(10)));
    }

    #[test]
    fn a_clock_that_steps_back_frees_no_token_of_another() {
        let mut arrivals = Arrivals::default();
        let mut tokens = Tokens::default();
        tokens.draw(at(900_000), 10, &mut arrivals);
        arrivals.add(at(900_000), 4);
        assert_eq!(arrivals.at_most(at(0)), 14);
        assert!(!tokens.take(at(0)));
        let _ = tokens.settle(Some(tokens.booked), &mut arrivals);
        assert_eq!(arrivals.at_most(at(0)), 14);
        assert_eq!(arrivals.at_most(at(1_300)), 0);
    }

    #[test]
    fn the_next_token_is_free_when_the_oldest_is_older_than_a_second() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.next_free(), None);
        arrivals.add(at(3), 1);
        arrivals.add(at(500), 7);
        let next = arrivals.next_free().expect("there is one");
        assert_eq!(next, at(1_005));
        assert_eq!(arrivals.at_most(at(1_004)), 8);
        assert_eq!(arrivals.at_most(next), 7);
    }

    #[test]
    fn one_that_is_told_late_counts_from_the_newest_time_that_is_known() {
        let mut arrivals = Arrivals::default();
        let _ = arrivals.at_most(at(50));
        arrivals.add(at(0), 1);
        assert_eq!(arrivals.at_most(at(1_045)), 1);
    }

    #[test]
    fn who_found_none_asks_again_when_its_share_has_come_back() {
        let mut tokens = Tokens::default();
        for (workers, limit, next, wait) in [
            (16, 1_000, 0, 8),
            (1, 100_000, 0, 2),
            (64, 10, 0, 16),
            (4, 1_000, 15, 15),
            (4, 1_000, 500, 16),
        ] {
            tokens.run_dry(at(0), workers, limit, Some(at(next)));
            assert!(tokens.is_dry(at(wait - 1)) && !tokens.is_dry(at(wait)));
        }
        let long_ago = Timestamp::ZERO;
        assert!(!tokens.is_dry(long_ago), "the clock stepped back");
    }
}
