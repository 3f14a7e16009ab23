//! The ticks of a replay.

use std::time::Duration;

use tidegate::engine::Timestamp;

/// A lap, and the tick while somebody waits.
pub const LAP: Duration = Duration::from_millis(100);
pub const LAP_NS: u64 = 100_000_000;
pub const FAST: Duration = Duration::from_millis(4);
/// The tick while nothing is going on.
pub const IDLE: Duration = Duration::from_secs(1);
/// A silence that is not lived through tick by tick: the plugin would have been started anew.
pub const LONG: Duration = Duration::from_secs(30 * 86_400);

/// The end of the lap that a moment is in.
pub fn lap_after(at: Timestamp) -> Timestamp {
    Timestamp::from_nanos(
        (at.as_nanos() / LAP_NS)
            .saturating_add(1)
            .saturating_mul(LAP_NS),
    )
}

/// When the one at `index` comes, of `many` that arrive evenly in the lap from `start` on.
pub fn within(start: Timestamp, index: u32, many: u32) -> Timestamp {
    let part = LAP_NS * u64::from(index) / u64::from(many.max(1));
    start.after(Duration::from_nanos(part))
}
