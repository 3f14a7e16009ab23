//! The rate over time, for charts: as fine as a fixed memory allows.

use tidegate::engine::Timestamp;

/// At most this many stretches are kept.
const MOST: usize = 1024;
/// A lap, in ms.
const LAP_MS: u64 = 100;

/// A stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stretch {
    pub arrivals: u64,
    /// Of so many laps the baseline is known, and this is their sum of it.
    laps: u32,
    baselines: f64,
}

impl Stretch {
    /// The mean baseline; none where nobody watched.
    pub fn baseline(&self) -> Option<f64> {
        (self.laps > 0).then(|| self.baselines / f64::from(self.laps))
    }

    fn add(&mut self, other: &Self) {
        self.arrivals += other.arrivals;
        self.laps = self.laps.saturating_add(other.laps);
        self.baselines += other.baselines;
    }
}

/// Arrivals and baselines in equal stretches, whose width doubles when they become too many.
#[derive(Debug, Default)]
pub struct Series {
    first: u64,
    /// Laps of a stretch, as a power of 2.
    doubled: u32,
    stretches: Vec<Stretch>,
}

impl Series {
    /// Adds a lap that ended at `now`.
    pub fn add(&mut self, now: Timestamp, arrivals: u32, baseline_per_s: f64) {
        let lap = now.as_millis() / LAP_MS;
        if self.stretches.is_empty() {
            self.first = lap;
        }
        let mut place = self.place(lap);
        while place >= MOST {
            self.double();
            place = self.place(lap);
        }
        if place >= self.stretches.len() {
            self.stretches.resize(place + 1, Stretch::default());
        }
        if let Some(stretch) = self.stretches.get_mut(place) {
            stretch.arrivals += u64::from(arrivals);
            stretch.laps = stretch.laps.saturating_add(1);
            stretch.baselines += baseline_per_s;
        }
    }

    fn place(&self, lap: u64) -> usize {
        // Doubled often enough before it is used; the cast saturates nothing below 2^32 stretches.
        usize::try_from(lap.saturating_sub(self.first) >> self.doubled).unwrap_or(usize::MAX)
    }

    fn double(&mut self) {
        self.doubled += 1;
        let halves = self.stretches.chunks(2).map(|pair| {
            let mut whole = Stretch::default();
            pair.iter().for_each(|half| whole.add(half));
            whole
        });
        self.stretches = halves.collect();
    }

    /// When it begins and ends, in Unix seconds.
    pub fn range(&self) -> (f64, f64) {
        let start = self.first.saturating_sub(1) as f64 / 10.0;
        (start, start + self.width() * self.stretches.len() as f64)
    }

    /// Seconds of a stretch.
    fn width(&self) -> f64 {
        (1_u64 << self.doubled.min(63)) as f64 / 10.0
    }

    /// Rates and baselines a second in `columns` equal parts of the whole or fewer.
    pub fn columns(&self, columns: usize) -> Vec<(f64, Option<f64>)> {
        let count = self.stretches.len();
        let columns = columns.clamp(1, count.max(1));
        let parts = (0..columns).filter_map(|column| {
            let (from, to) = (column * count / columns, (column + 1) * count / columns);
            let part = self
                .stretches
                .get(from..to)
                .filter(|part| !part.is_empty())?;
            let mut whole = Stretch::default();
            part.iter().for_each(|one| whole.add(one));
            let seconds = self.width() * part.len() as f64;
            Some((whole.arrivals as f64 / seconds, whole.baseline()))
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_kept_in_little_memory_and_nothing_is_lost() {
        let mut series = Series::default();
        for lap in 0..100_000_u64 {
            series.add(Timestamp::from_millis(5_000 + lap * 100), 3, 30.0);
        }
        assert!(series.stretches.len() <= MOST);
        let all: u64 = series.stretches.iter().map(|one| one.arrivals).sum();
        assert_eq!(all, 300_000);
        let columns = series.columns(10);
        assert_eq!(columns.len(), 10);
        assert!((columns[3].0 - 30.0).abs() < 1e-9);
        assert_eq!(columns[3].1, Some(30.0));
    }
}
