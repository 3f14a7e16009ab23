//! What all signals say together.

use alloc::vec::Vec;

use super::{
    bytes::{MemoryError, Put, Reader},
    detector::Detector,
    distress::{Answers, Distress},
    gauge::Gauge,
    surge::{Changes, DetectorConfig, Phase, Upstream},
    time::Timestamp,
};

const MAGIC: [u8; 4] = *b"TGM\x02";
/// A lap, in ms.
const LAP_MS: u64 = 100;

/// What was seen of a rule since the last tick, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Arrivals, admitted or not.
    pub arrivals: u32,
    /// Connections or requests that are open now.
    pub open: u32,
    /// How the upstream took what it got.
    pub answers: Answers,
    /// Whether the inflight limit is nearly full, or anybody is held.
    pub saturated: bool,
}

/// The signals of a rule: arrivals, open connections, and how the upstream takes it.
///
/// The phase is surge when arrivals **or** open connections are far more than normal. Shedding for
/// it is right only when the upstream has no room for it, too: surge **and** (saturation **or**
/// distress). A surge that the upstream takes in its stride is reported and nothing more; experts
/// called real jumps of up to ×4.4 normal. The limits hold whatever the alarm says.
///
/// This is the record `memory`: some 2 KiB, so that a reload loses no baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// The arrivals.
    pub detector: Detector,
    gauge: Gauge,
    distress: Distress,
    saturated: bool,
    /// The number of the last lap since the epoch.
    lap: u64,
}

impl Alarm {
    /// One that has seen nothing.
    pub fn new(config: DetectorConfig) -> Self {
        Self {
            detector: Detector::new(config),
            gauge: Gauge::default(),
            distress: Distress::default(),
            saturated: false,
            lap: 0,
        }
    }

    /// Takes what was seen since the last call; to be called about every 100 ms by every worker.
    ///
    /// The gauge takes the first call of a lap of 100 ms; laps without one are left out.
    pub fn tick(&mut self, seen: Seen, now: Timestamp) -> Changes {
        let before = self.is_surge();
        let healthy = !self.distress.tick(seen.answers, now);
        let upstream = match (healthy, seen.saturated) {
            (true, false) => Upstream::AtEase,
            (true, true) => Upstream::Saturated,
            (false, _) => Upstream::Distressed,
        };
        let mut changes = self.detector.tick(seen.arrivals, now, upstream);
        let lap = now.as_millis() / LAP_MS;
        if lap != core::mem::replace(&mut self.lap, lap) {
            self.gauge.lap(seen.open, healthy);
        }
        self.saturated = seen.saturated;
        let after = self.is_surge();
        if before || after {
            // Both signals are one surge. One of arrivals that was over within this very tick, a
            // late one, is told as it came.
            changes.surge_began = after && !before;
            changes.surge_ended = before && !after;
        }
        changes
    }

    /// Decides within a lap, when the `running` arrivals of one worker since its last tick have
    /// reached [`trip_count`](Self::trip_count); the tick that follows still counts them.
    pub fn notice(&mut self, running: u32, now: Timestamp) -> Changes {
        let before = self.is_surge();
        let mut changes = self.detector.notice(running, now);
        changes.surge_began = self.is_surge() && !before;
        changes
    }

    /// How many arrivals from the last tick to the next one are a surge; `u32::MAX` when it is one
    /// already, or none can be.
    pub fn trip_count(&self) -> u32 {
        if self.is_surge() {
            u32::MAX
        } else {
            self.detector.trip_count()
        }
    }

    fn is_surge(&self) -> bool {
        self.detector.phase() == Phase::Surge || self.gauge.is_abnormal()
    }

    /// What the rule goes through.
    pub fn phase(&self) -> Phase {
        if self.is_surge() {
            Phase::Surge
        } else {
            self.detector.phase()
        }
    }

    /// Whether arrivals may be shed for the surge.
    pub fn may_shed(&self) -> bool {
        self.is_surge() && (self.saturated || self.distress.is_distressed())
    }

    /// The open connections.
    pub const fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// How the upstream takes it.
    pub const fn distress(&self) -> &Distress {
        &self.distress
    }

    /// Whether the upstream is in distress and has served nobody for a second.
    pub(crate) fn serves_nobody(&mut self, now: Timestamp) -> bool {
        self.distress.serves_nobody(now)
    }

    /// Appends all that was learned; the configuration is no part of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        self.detector.encode(out);
        self.gauge.encode(out);
        self.distress.encode(out);
        out.push(u8::from(self.saturated));
        out.put(self.lap.to_le_bytes());
    }

    /// Reads what was learned, to go on with `config`.
    ///
    /// # Errors
    /// Whatever [`encode`](Self::encode) of this version cannot have written; any bytes are safe.
    pub fn decode(bytes: &[u8], config: DetectorConfig) -> Result<Self, MemoryError> {
        let mut reader = Reader(bytes);
        let alarm = Self::read(&mut reader, config)?;
        reader.end()?;
        Ok(alarm)
    }

    /// Reads it from the front of more.
    pub(crate) fn read(
        bytes: &mut Reader<'_>,
        config: DetectorConfig,
    ) -> Result<Self, MemoryError> {
        bytes.magic(MAGIC)?;
        Ok(Self {
            detector: Detector::read(bytes, config)?,
            gauge: Gauge::read(bytes)?,
            distress: Distress::read(bytes)?,
            saturated: bytes.flag()?,
            lap: bytes.u64()?,
        })
    }
}
