//! Whether the upstream takes what it gets.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    bytes::{MemoryError, Put, Reader},
    time::Timestamp,
    window::Window,
};

/// The trailing time that is looked at, in 10 buckets and the running one.
const SPAN: Duration = Duration::from_secs(5);
const BUCKETS: usize = 11;
/// This many bad answers at least, and this share of all, are distress.
const LEAST: u64 = 5;
const SHARE: f64 = 0.1;
/// Below this share it may be over, when it stays so for [`SPAN`].
const OVER: f64 = 0.05;

/// How an upstream took what it got since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Connected and answered, in time.
    pub good: u32,
    /// Refused in its own words: too many connections.
    pub refused: u32,
    /// Could not be connected to.
    pub failed: u32,
    /// Connected far more slowly than it normally does.
    pub slow: u32,
    /// Accepted, and said nothing for longer than it normally does.
    pub silent: u32,
}

impl Answers {
    /// Adds others.
    pub fn add(&mut self, more: Self) {
        for (sum, more) in [
            (&mut self.good, more.good),
            (&mut self.refused, more.refused),
            (&mut self.failed, more.failed),
            (&mut self.slow, more.slow),
            (&mut self.silent, more.silent),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Everything but the good ones.
    pub const fn bad(&self) -> u32 {
        self.refused
            .saturating_add(self.failed)
            .saturating_add(self.slow)
            .saturating_add(self.silent)
    }
}

/// Whether the upstream is in distress, from its answers of the trailing 5 s.
///
/// Begins with at least 5 bad answers that are at least 10 % of all; ends when bad ones have been
/// under 5 % for 5 s without interruption. A bad answer is a refusal, a failed or a slow connect, or
/// silence, and they weigh the same. Cost: 11 additions a call. Weak where next to nothing arrives:
/// four failures in 5 s are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distress {
    good: Window<BUCKETS>,
    bad: Window<BUCKETS>,
    distressed: bool,
    /// When the share of bad answers was last too high.
    last_bad: Timestamp,
}

impl Default for Distress {
    fn default() -> Self {
        Self {
            good: Window::new(SPAN),
            bad: Window::new(SPAN),
            distressed: false,
            last_bad: Timestamp::ZERO,
        }
    }
}

impl Distress {
    /// Takes the answers since the last call; whether the upstream is in distress.
    pub fn tick(&mut self, answers: Answers, now: Timestamp) -> bool {
        self.good.add(now, answers.good);
        self.bad.add(now, answers.bad());
        let (good, bad) = (self.good.at_most(now), self.bad.at_most(now));
        let share = bad as f64 / (good + bad).max(1) as f64;
        if bad >= LEAST && share >= SHARE {
            self.distressed = true;
        }
        // A clock that stepped back far would keep it in distress until then.
        if share >= OVER || now < self.last_bad {
            self.last_bad = now;
        } else if now.since(self.last_bad) >= SPAN {
            self.distressed = false;
        }
        self.distressed
    }

    /// Whether the upstream is in distress.
    pub const fn is_distressed(&self) -> bool {
        self.distressed
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.distressed));
        out.put(self.last_bad.as_nanos().to_le_bytes());
        for window in [&self.good, &self.bad] {
            out.put(window.head().to_le_bytes());
            out.put_u32s(*window.buckets());
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let distressed = bytes.flag()?;
        let last_bad = Timestamp::from_nanos(bytes.u64()?);
        let mut window = || {
            let head = bytes.u64()?;
            let mut buckets = [0; BUCKETS];
            for bucket in &mut buckets {
                *bucket = bytes.u32()?;
            }
            Ok(Window::from_parts(SPAN, head, buckets))
        };
        Ok(Self {
            distressed,
            last_bad,
            good: window()?,
            bad: window()?,
        })
    }
}
