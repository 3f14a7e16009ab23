//! A point in time, as the host told it.

use core::time::Duration;

/// Nanoseconds since the Unix epoch, as the host's clock showed them.
///
/// The host's clock may step in either direction. Differences saturate at zero, so a step back
/// makes time stand still for a while and nothing else. Range: until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since the Unix epoch; saturates.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero when the clock stepped back.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This much later; saturates at the end of the range.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// A duration in nanoseconds; saturates at 584 years.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_clock_that_steps_back_makes_time_stand_still() {
        let (early, late) = (Timestamp::from_millis(10), Timestamp::from_millis(20));
        assert_eq!(late.since(early), Duration::from_millis(10));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn the_end_of_the_range_saturates() {
        assert_eq!(
            Timestamp::from_nanos(u64::MAX)
                .after(Duration::MAX)
                .as_nanos(),
            u64::MAX
        );
        assert_eq!(Timestamp::from_millis(u64::MAX).as_nanos(), u64::MAX);
    }
}
