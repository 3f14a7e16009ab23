//! A sliding count over a trailing span.

use core::time::Duration;

use super::time::{Timestamp, nanos};

/// How many events fell into the trailing [`span`](Self::span).
///
/// `N` equal buckets that are forgotten whole: the running one, and `N − 1` older ones that
/// together are one span long. So two readings exist, and the exact count lies between them:
/// [`count`](Self::count) never counts an event that is older than the span and may miss up to a
/// bucket of the oldest; [`at_most`](Self::at_most) never misses one and may count up to a bucket
/// too many. A limit is checked against the latter.
///
/// A clock that steps back by less than a span adds to the newest bucket; one that steps back
/// further moves all that is remembered into the running bucket, to be forgotten one span later.
/// Either way nothing is lost and nothing stays for longer than two spans of the new clock.
///
/// Memory: `N` counters. Cost: at most `N` steps a call, whatever the gap. `N` is at least 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<const N: usize> {
    /// Width of a bucket in ns, at least 1.
    width: u64,
    /// Number of the running bucket since the epoch.
    head: u64,
    /// Bucket `b` is at `b % N`.
    buckets: [u32; N],
}

impl<const N: usize> Window<N> {
    const AT_LEAST_TWO: () = assert!(N >= 2, "a window needs a running and an old bucket");

    /// An empty window over `span`, which is rounded up to whole ns a bucket.
    pub fn new(span: Duration) -> Self {
        let () = Self::AT_LEAST_TWO;
        let width = nanos(span).div_ceil(N as u64 - 1).max(1);
        Self {
            width,
            head: 0,
            buckets: [0; N],
        }
    }

    /// From its parts, as [`head`](Self::head) and [`buckets`](Self::buckets) gave them.
    pub(crate) fn from_parts(span: Duration, head: u64, buckets: [u32; N]) -> Self {
        Self {
            head,
            buckets,
            ..Self::new(span)
        }
    }

    /// The trailing time that is counted.
    pub const fn span(&self) -> Duration {
        Duration::from_nanos(self.width.saturating_mul(N as u64 - 1))
    }

    /// The number of the running bucket.
    pub(crate) const fn head(&self) -> u64 {
        self.head
    }

    /// The counters, in the order of their place and not of their age.
    pub(crate) const fn buckets(&self) -> &[u32; N] {
        &self.buckets
    }

    /// Adds `events` that happened at `now`. A counter saturates.
    pub fn add(&mut self, now: Timestamp, events: u32) {
        self.advance(now);
        let place = self.place(self.head);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket = bucket.saturating_add(events);
        }
    }

    /// Adds events to a bucket that the window still has; others are forgotten already.
    pub(crate) fn add_in(&mut self, bucket: u64, events: u32) {
        if let Some(bucket) = self.bucket_mut(bucket) {
            *bucket = bucket.saturating_add(events);
        }
    }

    /// Takes events out of a bucket again, if the window still has it.
    pub(crate) fn take_from(&mut self, bucket: u64, events: u32) {
        if let Some(bucket) = self.bucket_mut(bucket) {
            *bucket = bucket.saturating_sub(events);
        }
    }

    /// The oldest bucket that has something in it.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = self.head.saturating_sub(N as u64 - 1);
        (first..=self.head).find(|bucket| {
            let events = self.buckets.get(self.place(*bucket));
            events.is_some_and(|events| *events > 0)
        })
    }

    fn bucket_mut(&mut self, bucket: u64) -> Option<&mut u32> {
        let known = bucket <= self.head && self.head - bucket < N as u64;
        let place = self.place(bucket);
        self.buckets.get_mut(place).filter(|_| known)
    }

    /// Events of the trailing span: none older, up to one bucket of the oldest missing.
    pub fn count(&mut self, now: Timestamp) -> u64 {
        let all = self.at_most(now);
        // The bucket after the running one is the oldest: it lies partly before the span.
        let oldest = self.place(self.head.wrapping_add(1));
        all - u64::from(self.buckets.get(oldest).copied().unwrap_or(0))
    }

    /// Events of the trailing span: none missing, up to one bucket of older ones counted.
    pub fn at_most(&mut self, now: Timestamp) -> u64 {
        self.advance(now);
        self.buckets.iter().map(|&n| u64::from(n)).sum()
    }

    /// Events of the running bucket and of the `older` ones before it.
    pub(crate) fn newest(&mut self, now: Timestamp, older: u64) -> u64 {
        self.advance(now);
        let buckets =
            (0..=older.min(N as u64 - 1)).map(|age| self.place(self.head.wrapping_sub(age)));
        buckets
            .filter_map(|place| self.buckets.get(place).copied().map(u64::from))
            .sum()
    }

    fn place(&self, bucket: u64) -> usize {
        (bucket % N as u64) as usize
    }

    /// Makes the bucket of `now` the running one and forgets what fell out.
    fn advance(&mut self, now: Timestamp) {
        let bucket = now.as_nanos() / self.width;
        if bucket < self.head {
            if self.head - bucket < N as u64 {
                return; // a small step back: the newest bucket goes on
            }
            let kept = self
                .buckets
                .iter()
                .fold(0_u32, |sum, &n| sum.saturating_add(n));
            self.buckets = [0; N];
            self.head = bucket;
            let place = self.place(bucket);
            if let Some(running) = self.buckets.get_mut(place) {
                *running = kept;
            }
            return;
        }
        let steps = (bucket - self.head).min(N as u64);
        for step in 0..steps {
            let place = self.place(bucket - step);
            if let Some(stale) = self.buckets.get_mut(place) {
                *stale = 0;
            }
        }
        self.head = bucket;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const SPAN: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_event_is_counted_for_its_span_and_then_forgotten() {
        let mut window = Window::<11>::new(SPAN);
        window.add(ms(5_000), 3);
        assert_eq!(window.count(ms(5_900)), 3);
        assert_eq!(window.at_most(ms(6_000)), 3);
        assert_eq!(window.count(ms(6_000)), 0);
        assert_eq!(window.at_most(ms(6_100)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_neither_panics_nor_forgets() {
        let mut window = Window::<11>::new(SPAN);
        window.add(ms(3_600_000), 2);
        window.add(ms(3_599_900), 1);
        assert_eq!(window.at_most(ms(3_599_900)), 3);
        // An hour back: remembered for one more span, not for an hour.
        assert_eq!(window.at_most(ms(0)), 3);
        assert_eq!(window.at_most(ms(1_000)), 3);
        assert_eq!(window.at_most(ms(1_100)), 0);
    }

    #[test]
    fn the_newest_are_those_of_the_running_bucket_and_a_few_before() {
        let mut window = Window::<11>::new(SPAN);
        for bucket in 0..30_u32 {
            window.add(ms(5_000 + 100 * u64::from(bucket)), bucket);
        }
        assert_eq!(window.newest(ms(7_900), 0), 29);
        assert_eq!(window.newest(ms(7_999), 2), 27 + 28 + 29);
        assert_eq!(window.newest(ms(8_000), 1), 29);
        assert_eq!(window.newest(ms(8_000), 99), window.at_most(ms(8_000)));
    }

    #[test]
    fn a_year_of_silence_costs_one_lap() {
        let mut window = Window::<11>::new(SPAN);
        window.add(ms(0), 7);
        assert_eq!(window.at_most(Timestamp::from_nanos(u64::MAX)), 0);
    }

    #[test]
    fn a_full_counter_saturates() {
        let mut window = Window::<2>::new(SPAN);
        window.add(ms(0), u32::MAX);
        window.add(ms(0), 5);
        assert_eq!(window.at_most(ms(0)), u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn the_window_brackets_a_naive_list(
            steps in prop::collection::vec((0_u64..400_000_000, 0_u32..4), 1..200),
        ) {
            let mut window = Window::<21>::new(SPAN);
            let width = window.width;
            let (mut now, mut list) = (0_u64, Vec::<(u64, u32)>::new());
            for (gap, events) in steps {
                now += gap;
                window.add(Timestamp::from_nanos(now), events);
                list.push((now, events));
                let since = |age: u64| -> u64 {
                    list.iter()
                        .filter(|(at, _)| at + age > now)
                        .map(|(_, n)| u64::from(*n))
                        .sum()
                };
                let span = nanos(SPAN);
                let (low, high) = (
                    window.count(Timestamp::from_nanos(now)),
                    window.at_most(Timestamp::from_nanos(now)),
                );
                prop_assert!(low <= since(span) && since(span - width) <= low);
                prop_assert!(high >= since(span) && high <= since(span + width));
            }
        }

        #[test]
        fn no_sequence_of_clocks_panics_or_loses_the_newest(
            clocks in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let mut window = Window::<5>::new(SPAN);
            for clock in clocks {
                let now = Timestamp::from_nanos(clock);
                window.add(now, 1);
                prop_assert!(window.at_most(now) >= 1);
            }
        }
    }
}
