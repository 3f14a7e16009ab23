//! How long something usually takes, so that far longer can be told.

use alloc::vec::Vec;
use core::{f64::consts::LN_2, time::Duration};

use super::bytes::{MemoryError, Put, Reader};

/// Steps of √2 from the shortest span that is told apart, and one for whatever is longer.
const STEPS: usize = 14;
/// The last step that has an end.
const LAST: usize = STEPS - 2;
/// So many were seen before anything is known.
const KNOWN: u32 = 64;
/// It may jump until so many were seen, and for so long.
const SETTLED: u32 = 512;
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// At most about so many are remembered; then all counts are halved.
const REMEMBERED: u32 = 1024;
/// Nine of ten take no longer than the usual.
const QUANTILE: (u32, u32) = (9, 10);
/// The most that it moves once it is settled: ×2 in 30 minutes, in steps a second.
const SLEW_PER_S: f64 = 2.0 / 1800.0;

/// How long things took, as counts of the steps from `SHORTEST_MS` on.
///
/// Unit of a step: a factor of √2. Nothing that is shorter than the shortest is told apart, nor
/// what is more than 64 times as long. Counts end at 65,535. Memory: 28 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans<const SHORTEST_MS: u32>([u16; STEPS]);

impl<const SHORTEST_MS: u32> Spans<SHORTEST_MS> {
    /// Counts one that took so long.
    pub fn add(&mut self, took: Duration) {
        let multiple = took.as_secs_f64() * 1000.0 / f64::from(SHORTEST_MS);
        // The logarithm of nothing is below every step, and the cast saturates.
        let step = libm::ceil(2.0 / LN_2 * libm::log(multiple)).max(0.0) as usize;
        if let Some(count) = self.0.get_mut(step.min(STEPS - 1)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds others.
    pub fn add_all(&mut self, more: &Self) {
        for (count, more) in self.0.iter_mut().zip(more.0) {
            *count = count.saturating_add(more);
        }
    }

    fn sum(&self) -> u32 {
        self.0.iter().copied().map(u32::from).sum()
    }
}

/// How long something usually takes: nine of ten take no longer.
///
/// The quantile of about the last 1,000, rounded up to a step; once it is settled, after 512 and a
/// minute, it moves by ×2 in 30 minutes at most, so neither a bad minute nor a load of 10,000 a
/// second makes something else usual. A quantile and no mean, because a cluster may have near and
/// far endpoints: what one in ten takes always is no sign of anything. Nothing is known before 64.
/// Cost: a pass over 14 counters. Memory: 48 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usual<const SHORTEST_MS: u32> {
    spans: Spans<SHORTEST_MS>,
    /// In steps from the shortest.
    level: f64,
    seen: u32,
    age: Duration,
}

impl<const SHORTEST_MS: u32> Usual<SHORTEST_MS> {
    /// Learns from those that ended in the last `gap`.
    pub fn learn(&mut self, spans: &Spans<SHORTEST_MS>, gap: Duration) {
        self.age = self.age.saturating_add(gap);
        self.spans.add_all(spans);
        self.seen = self.seen.saturating_add(spans.sum());
        // At most 10 times, for 14 counters of 16 bits.
        while self.spans.sum() > REMEMBERED {
            self.spans.0.iter_mut().for_each(|count| *count /= 2);
        }
        let target = self.quantile() as f64;
        self.level = if self.seen < SETTLED || self.age < SETTLED_AFTER {
            target
        } else {
            let most = SLEW_PER_S * gap.as_secs_f64();
            self.level + (target - self.level).clamp(-most, most)
        };
    }

    /// The step in which the quantile lies; the first before anything was seen.
    fn quantile(&self) -> usize {
        let (of, out_of) = QUANTILE;
        let enough = self.spans.sum().saturating_mul(of);
        let mut sum = 0_u32;
        let found = self.spans.0.iter().position(|count| {
            sum += u32::from(*count);
            sum.saturating_mul(out_of) >= enough
        });
        found.unwrap_or(STEPS - 1)
    }

    /// Whether enough was seen.
    pub const fn is_known(&self) -> bool {
        self.seen >= KNOWN
    }

    /// `times` as long as usual; [`Duration::MAX`] where the usual is longer than can be told. None
    /// before enough was seen.
    pub fn times(&self, times: f64) -> Option<Duration> {
        if !self.is_known() {
            return None;
        }
        if self.level > LAST as f64 {
            return Some(Duration::MAX);
        }
        let millis = times * f64::from(SHORTEST_MS) * libm::exp(LN_2 / 2.0 * self.level);
        Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(Duration::MAX))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for count in self.spans.0 {
            out.put(count.to_le_bytes());
        }
        out.put_f64s([self.level]);
        out.put_u32s([self.seen]);
        out.put(nanos(self.age).to_le_bytes());
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let mut spans = Spans::default();
        for count in &mut spans.0 {
            *count = bytes.u16()?;
        }
        Ok(Self {
            spans,
            level: bytes.f64(0.0..=(STEPS - 1) as f64)?,
            seen: bytes.u32()?,
            age: Duration::from_nanos(bytes.u64()?),
        })
    }
}

/// As many nanoseconds as fit: five centuries.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
