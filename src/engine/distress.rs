//! Whether the upstream takes what it gets.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    bytes::{MemoryError, Put, Reader},
    time::Timestamp,
    usual::{Spans, Usual, nanos},
    window::Window,
};

/// The trailing time that is looked at, in 10 buckets and the running one.
const SPAN: Duration = Duration::from_secs(5);
const BUCKETS: usize = 11;
/// So many of them before the running one are a second.
const LAST_SECOND: u64 = 2;
/// This many bad answers at least, and this share of all, are distress.
const LEAST: u64 = 5;
const SHARE: f64 = 0.1;
/// Below this share it may be over, when it stays so for [`SPAN`].
const OVER: f64 = 0.05;

/// Something is far longer than usual above this multiple of it.
const FAR_LONGER: f64 = 4.0;
/// A connect is slow from here on at the latest, and at the earliest.
const SLOW_AT_MOST: Duration = Duration::from_secs(3);
const SLOW_AT_LEAST: Duration = Duration::from_millis(200);
/// Nobody is called silent before that.
const SILENT_AT_LEAST: Duration = Duration::from_secs(1);
/// While it is not known what is usual, this is long.
const COLD: Duration = Duration::from_secs(1);
/// In distress nothing is learned for so long, when nothing is known and when something is.
const FROZEN_COLD: Duration = Duration::from_secs(300);
const FROZEN: Duration = Duration::from_secs(1800);
/// No gap between two calls counts for more.
const GAP: Duration = Duration::from_secs(60);
/// Two workers' clocks are not further apart than that; a clock that is was set back.
const BEHIND: Duration = Duration::from_secs(1);

/// The shortest connect and the shortest silence that are told apart, in ms: a fourth and less of
/// what is called long at all.
const CONNECT_MS: u32 = 32;
const SILENCE_MS: u32 = 250;

/// From when on a connect is slow, and a silence is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A connect that took so long was slow.
    pub connect: Duration,
    /// Who said nothing for so long was silent; [`Duration::MAX`] where that is usual.
    pub silence: Duration,
}

impl Patience {
    /// A silence that is shorter than this is none, whatever is usual.
    pub const LEAST_SILENCE: Duration = SILENT_AT_LEAST;
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: COLD,
            silence: COLD,
        }
    }
}

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
    /// How long the connects took, of all that were connected and looked at.
    pub connects: Spans<CONNECT_MS>,
    /// How long the upstream said nothing, of all connections.
    pub silences: Spans<SILENCE_MS>,
}

impl Answers {
    /// Of one connection that ended: how long the upstream said nothing, zero when it said
    /// something; and how long the connect took, which is not asked when it was silent.
    pub fn of_connection(
        silence: Duration,
        connect: impl FnOnce() -> Option<Duration>,
        patience: Patience,
    ) -> Self {
        let mut answers = Self::default();
        answers.silences.add(silence);
        if silence >= patience.silence {
            answers.silent = 1;
            return answers;
        }
        let took = connect();
        if let Some(took) = took {
            answers.connects.add(took);
        }
        if took.is_some_and(|took| took >= patience.connect) {
            answers.slow = 1;
        } else {
            answers.good = 1;
        }
        answers
    }

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
        self.connects.add_all(&more.connects);
        self.silences.add_all(&more.silences);
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
/// silence, and they weigh the same. Cost: some 40 additions a call.
///
/// It also learns what is [usual](Usual) for this upstream. A connect is slow when it takes more
/// than 4 times as long as nine of ten do, and at least 200 ms; from 3 s on it is slow whatever is
/// usual. A silence counts when it lasts more than 4 times as long as nine of ten do, and at least 1 s:
/// so an upstream that never says a word, as a collector of logs, is left alone once that is known.
/// Before 64 connections have ended both are 1 s.
///
/// What happens in distress is not learned, or an upstream that fails slowly would be normal soon.
/// But one that was moved far away is slow for good: after half an hour of distress it is learned
/// again, and moves ×2 in 30 minutes; where nothing is known yet after 5 minutes.
///
/// Weak where next to nothing arrives: four failures in 5 s are none. An upstream that is slow when
/// it is first seen is taken for a slow one. How long a connect took is known when the connection
/// ends: one that stays for hours tells of its slow connect after hours.
#[derive(Clone, Debug, PartialEq)]
pub struct Distress {
    good: Window<BUCKETS>,
    bad: Window<BUCKETS>,
    distressed: bool,
    /// When the share of bad answers was last too high.
    last_bad: Timestamp,
    connects: Usual<CONNECT_MS>,
    silences: Usual<SILENCE_MS>,
    /// The last call, and how long it has been in distress by then.
    last: Timestamp,
    lasted: Duration,
}

impl Default for Distress {
    fn default() -> Self {
        Self {
            good: Window::new(SPAN),
            bad: Window::new(SPAN),
            distressed: false,
            last_bad: Timestamp::ZERO,
            connects: Usual::default(),
            silences: Usual::default(),
            last: Timestamp::ZERO,
            lasted: Duration::ZERO,
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
        self.learn(&answers, now);
        self.distressed
    }

    fn learn(&mut self, answers: &Answers, now: Timestamp) {
        let gap = now.since(self.last).min(GAP);
        if now > self.last || self.last.since(now) > BEHIND {
            self.last = now;
        }
        self.lasted = if self.distressed {
            self.lasted.saturating_add(gap)
        } else {
            Duration::ZERO
        };
        let frozen = |known| {
            let span = if known { FROZEN } else { FROZEN_COLD };
            self.distressed && self.lasted < span
        };
        if !frozen(self.connects.is_known()) {
            self.connects.learn(&answers.connects, gap);
        }
        if !frozen(self.silences.is_known()) {
            self.silences.learn(&answers.silences, gap);
        }
    }

    /// What is long for this upstream.
    pub fn patience(&self) -> Patience {
        let connect = self.connects.times(FAR_LONGER).unwrap_or(COLD);
        let silence = self.silences.times(FAR_LONGER).unwrap_or(COLD);
        Patience {
            connect: connect.clamp(SLOW_AT_LEAST, SLOW_AT_MOST),
            silence: silence.max(SILENT_AT_LEAST),
        }
    }

    /// Whether the upstream is in distress.
    pub const fn is_distressed(&self) -> bool {
        self.distressed
    }

    /// Whether it has served nobody for a second: then no share of the users is small enough.
    pub(crate) fn serves_nobody(&mut self, now: Timestamp) -> bool {
        self.distressed && self.good.newest(now, LAST_SECOND) == 0
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.distressed));
        out.put(self.last_bad.as_nanos().to_le_bytes());
        for window in [&self.good, &self.bad] {
            out.put(window.head().to_le_bytes());
            out.put_u32s(*window.buckets());
        }
        self.connects.encode(out);
        self.silences.encode(out);
        out.put(self.last.as_nanos().to_le_bytes());
        out.put(nanos(self.lasted).to_le_bytes());
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
            connects: Usual::read(bytes)?,
            silences: Usual::read(bytes)?,
            last: Timestamp::from_nanos(bytes.u64()?),
            lasted: Duration::from_nanos(bytes.u64()?),
        })
    }
}
