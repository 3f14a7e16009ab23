//! A story that the bytes tell: one event after the other, and whether all ends well.

use arbitrary::{Result, Unstructured};
use tidegate::engine::Timestamp;

/// The clock jumps by at most so much.
const JUMP_MS: u64 = 3 * 86_400_000;

/// What happens to the workers of one rule.
pub trait Story: Sized {
    /// At most so many events.
    const EVENTS: usize;

    /// The rule, and the first workers.
    fn begin(u: &mut Unstructured<'_>) -> Result<Self>;

    /// Whatever comes next.
    fn event(&mut self, u: &mut Unstructured<'_>) -> Result<()>;

    /// What holds after every event.
    fn check(&mut self);

    /// What holds in the end.
    fn recover(self);
}

/// Tells it, until there are no more bytes.
pub fn tell<S: Story>(data: &[u8]) {
    let mut u = Unstructured::new(data);
    if let Ok(mut story) = S::begin(&mut u) {
        for _ in 0..S::EVENTS {
            if u.is_empty() || story.event(&mut u).is_err() {
                break;
            }
            story.check();
        }
        story.recover();
    }
}

/// Where a clock is that jumps.
pub fn jump(u: &mut Unstructured<'_>, now: Timestamp) -> Result<Timestamp> {
    let millis = u.int_in_range(0..=JUMP_MS)?;
    let now = now.as_millis();
    let there = if u.arbitrary()? {
        now + millis
    } else {
        now.saturating_sub(millis)
    };
    Ok(Timestamp::from_millis(there))
}
