//! What surges have already shown to do no harm.

use alloc::vec::Vec;

use super::{
    baseline::{LAP_S, MOST_PER_S},
    bytes::{MemoryError, Put, Reader},
    surge::Upstream,
};

/// What is known halves in seven days: ln 2 / 604,800 s.
const FADE: f64 = 1.0 - core::f64::consts::LN_2 / (7.0 * 86_400.0) * LAP_S;
/// The span over which a rate must have been taken, in s.
const SPAN_S: f64 = 32.0;

/// The highest rate of a surge, over 32 s, that the upstream took with ease.
///
/// Less than that is no surge for some days: it is known to fit, and telling of it again would be
/// noise. It halves in seven days, and is forgotten at once when the upstream is saturated or in
/// distress, whatever the rate: so nothing that may be shed is ever overlooked for it. Unit:
/// arrivals a second. Cost: constant a lap.
///
/// Weak: who makes a harmless surge first may make another one unreported; its callers are seen in
/// the metrics alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    per_s: f64,
    /// The most arrivals of 32 s in the running surge.
    most: u64,
    /// Whether the running surge has done harm.
    harmed: bool,
}

impl Known {
    /// The rate below which arrivals are no surge, a second.
    pub const fn per_s(&self) -> f64 {
        self.per_s
    }

    /// A surge begins.
    pub fn begin(&mut self) {
        (self.most, self.harmed) = (0, false);
    }

    /// One lap passes, with the arrivals of the 32 s that end with it if there is a surge.
    pub fn see(&mut self, surge: Option<u64>, upstream: Upstream) {
        self.per_s *= FADE;
        if upstream != Upstream::AtEase {
            (self.per_s, self.harmed) = (0.0, true);
        }
        if let Some(arrivals) = surge {
            self.most = self.most.max(arrivals);
        }
    }

    /// The surge is over.
    pub fn end(&mut self) {
        if !self.harmed {
            self.per_s = self.per_s.max(self.most as f64 / SPAN_S);
        }
    }

    /// Appends what is known.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_f64s([self.per_s]);
        out.put(self.most.to_le_bytes());
        out.push(u8::from(self.harmed));
    }

    /// Reads what is known.
    pub fn decode(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        Ok(Self {
            per_s: bytes.f64(0.0..=MOST_PER_S)?,
            most: bytes.u64()?.min(MOST_PER_S as u64 * SPAN_S as u64),
            harmed: bytes.flag()?,
        })
    }
}
