//! The record that the workers of one Envoy share about one rule.

use alloc::vec::Vec;
use core::{num::NonZeroU32, time::Duration};

use super::{
    arrivals::{Arrivals, Booking},
    bytes::{MemoryError, Put, Reader},
    crowd::{Crowd, MAX_SEATS, Opens},
    decision::{Fault, MAX_CLASSES},
    tide::TideRecord,
    time::Timestamp,
};

/// At most this many workers have a row at once.
pub const MAX_WORKERS: usize = 256;

/// A worker whose row has not changed its beat for this long is gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);

const MAGIC: [u8; 4] = *b"TGP\x03";

/// Names a worker: one virtual machine of the plugin on one thread.
///
/// Drawn from a shared sequence, so no two workers of one Envoy process have the same one, and a
/// machine that was started anew is another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerId(pub NonZeroU32);

/// What one worker has open, as that worker said last.
///
/// Absolute numbers and not differences: a row that got lost is whole again with its worker's
/// next beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row it is.
    pub worker: WorkerId,
    /// When its worker wrote it, in ms since the epoch.
    pub beat_ms: u64,
    /// Admitted and not closed yet; each has a slot of `limits.inflight`.
    pub open: u32,
    /// Slots that it took from the pool: those of `open`, and idle ones for arrivals to come. What was
    /// opened since counts from then on.
    pub leased: u32,
    /// Open without a slot: what shadow mode let pass and enforce would not have.
    pub ghosts: u32,
    /// Of all those, the ones that the upstream has not answered yet.
    pub connecting: u32,
    /// Held.
    pub waiting: u32,
    /// Arrivals of the trailing [`RATE_SPAN`](super::gate::RATE_SPAN), admitted or not.
    pub arrived: u32,
    /// Of `open`, those of each class.
    pub classes: [u32; MAX_CLASSES],
    /// The first priority of those that wait for nothing but a free slot.
    pub first: Option<u8>,
    /// Somebody lacked a slot within the last beat.
    pub short: bool,
    /// What callers with a seat have open, by their seat in the record; none is zero.
    pub(crate) seats: Vec<(u8, u32)>,
    /// The tokens of `limits.arrivals_per_s` that it took, used or not.
    pub(crate) tokens: Booking,
}

impl Row {
    /// One of a worker that has nothing.
    pub const fn idle(worker: WorkerId, beat_ms: u64) -> Self {
        Self {
            worker,
            beat_ms,
            open: 0,
            leased: 0,
            ghosts: 0,
            connecting: 0,
            waiting: 0,
            arrived: 0,
            classes: [0; MAX_CLASSES],
            first: None,
            short: false,
            seats: Vec::new(),
            tokens: Booking {
                bucket: 0,
                tokens: 0,
            },
        }
    }

    /// The slots that nobody else can have.
    pub fn held(&self) -> u32 {
        self.open.max(self.leased)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32s([self.worker.0.get()]);
        out.put(self.beat_ms.to_le_bytes());
        out.put_u32s([self.open, self.leased, self.ghosts, self.connecting]);
        out.put_u32s([self.waiting, self.arrived, self.tokens.tokens]);
        out.put(self.tokens.bucket.to_le_bytes());
        out.put([u8::from(self.short), u8::from(self.first.is_some())]);
        out.push(self.first.unwrap_or(0));
        let classes = self.classes.iter().rposition(|&open| open > 0);
        let classes = classes.map_or(0, |last| last + 1);
        // At most MAX_CLASSES and MAX_SEATS of them exist.
        out.put([classes as u8, self.seats.len() as u8]);
        for open in self.classes.iter().take(classes) {
            out.put(open.to_le_bytes());
        }
        for (seat, open) in &self.seats {
            out.push(*seat);
            out.put(open.to_le_bytes());
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let worker = NonZeroU32::new(bytes.u32()?).ok_or(MemoryError::Value)?;
        let mut row = Self {
            beat_ms: bytes.u64()?,
            open: bytes.u32()?,
            leased: bytes.u32()?,
            ghosts: bytes.u32()?,
            connecting: bytes.u32()?,
            waiting: bytes.u32()?,
            arrived: bytes.u32()?,
            ..Self::idle(WorkerId(worker), 0)
        };
        row.tokens.tokens = bytes.u32()?;
        row.tokens.bucket = bytes.u64()?;
        row.short = bytes.flag()?;
        let (waits, first) = (bytes.flag()?, bytes.u8()?);
        row.first = waits.then_some(first);
        let (classes, seats) = (usize::from(bytes.u8()?), usize::from(bytes.u8()?));
        if classes > MAX_CLASSES || seats > MAX_SEATS {
            return Err(MemoryError::Length);
        }
        for open in row.classes.iter_mut().take(classes) {
            *open = bytes.u32()?;
        }
        row.seats.reserve(seats);
        for _ in 0..seats {
            let (seat, open) = (bytes.u8()?, bytes.u32()?);
            if usize::from(seat) >= MAX_SEATS {
                return Err(MemoryError::Value);
            }
            row.seats.push((seat, open));
        }
        Ok(row)
    }

    /// Whether it says the same as an older one of the same worker; when it was written, and what
    /// its callers have, is left aside.
    pub(crate) fn says_the_same(&self, old: &Self) -> bool {
        let numbers = |row: &Self| {
            (
                [
                    row.open,
                    row.leased,
                    row.ghosts,
                    row.connecting,
                    row.waiting,
                    row.arrived,
                ],
                row.classes,
                row.first,
                row.short,
                row.tokens,
            )
        };
        numbers(self) == numbers(old)
    }

    /// Whether there is nothing in it that anybody else must know.
    pub(crate) const fn is_idle(&self) -> bool {
        self.open == 0
            && self.leased == 0
            && self.tokens.tokens == 0
            && self.ghosts == 0
            && self.connecting == 0
            && self.waiting == 0
            && self.arrived == 0
            && !self.short
    }
}

/// Sums over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of [`Row::open`].
    pub open: u64,
    /// Sum of [`Row::held`].
    pub held: u64,
    /// Sum of [`Row::ghosts`].
    pub ghosts: u64,
    /// Sum of [`Row::connecting`].
    pub connecting: u64,
    /// Sum of [`Row::waiting`].
    pub waiting: u64,
    /// Sum of [`Row::arrived`].
    pub arrived: u64,
    /// How many workers had an arrival that lacked a slot.
    pub short: u64,
}

impl Totals {
    fn add(&mut self, row: &Row) {
        self.open += u64::from(row.open);
        self.held += u64::from(row.held());
        self.ghosts += u64::from(row.ghosts);
        self.connecting += u64::from(row.connecting);
        self.waiting += u64::from(row.waiting);
        self.arrived += u64::from(row.arrived);
        self.short += u64::from(row.short);
    }

    /// Whether everything is zero.
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// No row is left for one more worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// What the workers share about one rule: who has how much open, and the arrivals that were
/// admitted in the trailing second.
///
/// As bytes: magic and version, number of rows, the arrivals, the crowd, the rows; little-endian. A
/// row takes some 60 bytes and 5 for each of its callers: with 8 workers and 8 callers 1.4 KiB, at
/// most 110 KiB; arrivals that are limited take up to 3 KiB more. Any bytes decode to a record or to an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolRecord {
    rows: Vec<Row>,
    /// Admitted arrivals, kept for rules that limit them.
    pub arrivals: Arrivals,
    /// Who normally has how much open.
    pub(crate) crowd: Crowd,
}

impl PoolRecord {
    /// Everything that other workers than `me` have.
    pub fn others(&self, me: WorkerId) -> Totals {
        let mut totals = Totals::default();
        self.rows
            .iter()
            .filter(|row| row.worker != me)
            .for_each(|row| totals.add(row));
        totals
    }

    /// What callers with a seat have open in other workers than `me`, or in all.
    pub(crate) fn opens(&self, me: Option<WorkerId>) -> Opens {
        let mut opens = [0_u32; MAX_SEATS];
        for row in self.rows.iter().filter(|row| Some(row.worker) != me) {
            for (seat, open) in &row.seats {
                if let Some(sum) = opens.get_mut(usize::from(*seat)) {
                    *sum = sum.saturating_add(*open);
                }
            }
        }
        opens
    }

    /// Learns what is normal from the rows, once a lap of 100 ms; whether that changed anything.
    pub(crate) fn learn(&mut self, now: Timestamp, surge: bool) -> bool {
        let now_ms = now.as_millis();
        let total = self.totals().open;
        if !self.crowd.is_due(now_ms, total) {
            return false;
        }
        let opens = self.opens(None);
        let short = self.rows.iter().any(|row| row.short || row.waiting > 0);
        self.crowd.learn(now_ms, &opens, total, short, surge);
        true
    }

    /// Everything that all workers have.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.rows.iter().for_each(|row| totals.add(row));
        totals
    }

    /// A worker's row.
    pub(crate) fn row(&self, worker: WorkerId) -> Option<&Row> {
        self.rows.iter().find(|row| row.worker == worker)
    }

    /// The rows, in no particular order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Writes a worker's row; an idle one needs none.
    ///
    /// # Errors
    /// [`TableFull`] when [`MAX_WORKERS`] other workers have a row; nothing is changed then.
    pub fn set_row(&mut self, row: Row) -> Result<(), TableFull> {
        if row.is_idle() {
            self.rows.retain(|old| old.worker != row.worker);
        } else if let Some(old) = self.rows.iter_mut().find(|old| old.worker == row.worker) {
            *old = row;
        } else if self.rows.len() >= MAX_WORKERS {
            return Err(TableFull);
        } else {
            self.rows.push(row);
        }
        Ok(())
    }

    /// Drops the rows of workers that are gone; how many there were.
    ///
    /// Only for a worker that knows its own clock to have been steady for [`DEAD_AFTER`]:
    /// otherwise a clock that steps would bury the living.
    pub fn reap(&mut self, me: WorkerId, now: Timestamp) -> u32 {
        let before = self.rows.len();
        let limit = DEAD_AFTER.as_millis() as u64;
        self.rows
            .retain(|row| row.worker == me || row.beat_ms.abs_diff(now.as_millis()) <= limit);
        (before - self.rows.len()) as u32
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(MAGIC);
        // At most MAX_WORKERS rows exist, in memory and in bytes.
        out.put_u32s([self.rows.len() as u32]);
        self.arrivals.encode(out);
        self.crowd.encode(out);
        self.rows.iter().for_each(|row| row.encode(out));
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Whatever [`encode`](Self::encode) of this version has not written.
    pub fn decode(bytes: &[u8]) -> Result<Self, MemoryError> {
        let mut rest = Reader(bytes);
        rest.magic(MAGIC)?;
        let count = rest.u32()? as usize;
        if count > MAX_WORKERS {
            return Err(MemoryError::Length);
        }
        let arrivals = Arrivals::decode(&mut rest)?;
        let crowd = Crowd::decode(&mut rest)?;
        let mut rows = Vec::<Row>::with_capacity(count);
        for _ in 0..count {
            let row = Row::read(&mut rest)?;
            if rows.iter().any(|other| other.worker == row.worker) {
                return Err(MemoryError::Value);
            }
            rows.push(row);
        }
        rest.end()?;
        Ok(Self {
            rows,
            arrivals,
            crowd,
        })
    }
}

/// Whether a change of the shared record is to be written.
#[derive(Clone, Copy, Debug)]
pub enum Change<R> {
    /// Nothing was changed.
    Keep(R),
    /// Write it, if nobody else has in the meantime.
    Write(R),
}

/// What the workers share, as bytes.
pub trait Record: Sized {
    /// What the configuration says about it; not written into it.
    type Setting: Copy;

    /// One that says nothing.
    fn fresh(setting: Self::Setting) -> Self;

    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads it; `None` for what [`encode`](Self::encode) of this version has not written.
    fn decode(bytes: &[u8], setting: Self::Setting) -> Option<Self>;
}

/// A record that the workers share, wherever it is kept.
pub trait Shared<R> {
    /// Reads the record, lets `change` change it, and writes it back as a whole. When another
    /// worker got in between, all that begins anew, a bounded number of times.
    ///
    /// # Errors
    /// The [`Fault`] that kept it from being read or written.
    fn update<A>(&mut self, change: impl FnMut(&mut R) -> Change<A>) -> Result<A, Fault>;
}

/// Everything that the workers share about one rule: the pool, the tide, and a table of callers for
/// each place.
pub trait Records: Shared<PoolRecord> + Shared<TideRecord> {
    /// Puts a worker's table of callers where the others find it. What is there is overwritten; that
    /// it got lost is no harm, the next one comes soon.
    fn put_callers(&mut self, place: u32, table: &[u8]);

    /// The table of callers at a place, if there is any.
    fn callers(&mut self, place: u32) -> Option<Vec<u8>>;
}

impl Record for PoolRecord {
    type Setting = ();

    fn fresh((): ()) -> Self {
        Self::default()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Self::encode(self, out);
    }

    fn decode(bytes: &[u8], (): ()) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    pub(crate) fn worker(id: u32) -> WorkerId {
        WorkerId(NonZeroU32::new(id).expect("not zero"))
    }

    fn row(id: u32, open: u32) -> Row {
        Row {
            open,
            ..Row::idle(worker(id), 1_000)
        }
    }

    fn bytes(record: &PoolRecord) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode(&mut out);
        out
    }

    #[test]
    fn an_idle_row_takes_no_place() {
        let mut record = PoolRecord::default();
        record.set_row(row(1, 0)).expect("room");
        assert!(record.rows().is_empty());
        record.set_row(row(1, 3)).expect("room");
        record.set_row(row(1, 0)).expect("room");
        assert!(record.rows().is_empty());
    }

    #[test]
    fn one_worker_too_many_is_refused_and_changes_nothing() {
        let mut record = PoolRecord::default();
        for id in 1..=MAX_WORKERS as u32 {
            record.set_row(row(id, 1)).expect("room");
        }
        let before = record.clone();
        assert_eq!(record.set_row(row(999, 1)), Err(TableFull));
        assert_eq!(record, before);
        record.set_row(row(1, 2)).expect("a row of its own");
        assert_eq!(record.totals().open, MAX_WORKERS as u64 + 1);
        assert_eq!(PoolRecord::decode(&bytes(&record)), Ok(record));
    }

    #[test]
    fn the_dead_are_reaped_and_the_living_are_not() {
        let mut record = PoolRecord::default();
        for (id, beat_ms) in [(1, 0), (2, 5_000), (3, 2_999), (4, 9_000), (5, 3_000)] {
            let row = Row {
                beat_ms,
                ..row(id, 1)
            };
            record.set_row(row).expect("room");
        }
        // Worker 3 is too old, 4 lives in a future that a clock stepped back from.
        assert_eq!(record.reap(worker(1), Timestamp::from_millis(5_000)), 2);
        let left: Vec<_> = record.rows().iter().map(|row| row.worker.0.get()).collect();
        assert_eq!(left, [1, 2, 5]);
    }

    #[test]
    fn a_foreign_or_cut_record_is_refused() {
        let mut record = PoolRecord::default();
        record.set_row(row(1, 1)).expect("room");
        let good = bytes(&record);
        assert_eq!(PoolRecord::decode(b""), Err(MemoryError::Foreign));
        assert_eq!(PoolRecord::decode(b"TGP\x01"), Err(MemoryError::Foreign));
        for length in MAGIC.len()..good.len() {
            let cut = good.get(..length).expect("shorter");
            assert_eq!(PoolRecord::decode(cut), Err(MemoryError::Length));
        }
        let mut twice = record.clone();
        twice.rows.push(row(1, 9));
        assert_eq!(PoolRecord::decode(&bytes(&twice)), Err(MemoryError::Value));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = PoolRecord::decode(&bytes);
            let mut ours = MAGIC.to_vec();
            ours.extend(bytes);
            let _ = PoolRecord::decode(&ours);
        }

        #[test]
        fn a_record_survives_its_bytes(
            rows in prop::collection::btree_map(1_u32..9, any::<([u32; 8], [u32; 8], Option<u8>, bool)>(), 0..8),
            seats in prop::collection::vec((0_u8..64, any::<u32>()), 0..64),
            callers in prop::collection::btree_set(any::<u64>(), 0..64),
            arrivals in prop::collection::vec((any::<u64>(), any::<u32>()), 0..9),
        ) {
            let mut record = PoolRecord::default();
            for (id, (numbers, classes, first, short)) in rows {
                let [beat, open, leased, ghosts, connecting, waiting, arrived, tokens] = numbers;
                record.set_row(Row {
                    worker: worker(id),
                    beat_ms: u64::from(beat),
                    open, leased, ghosts, connecting, waiting, arrived, classes, first, short,
                    seats: seats.clone(),
                    tokens: Booking { bucket: u64::from(beat), tokens },
                }).expect("room");
            }
            for caller in callers {
                record.crowd.take_seat(caller, &[0; MAX_SEATS]);
            }
            record.learn(Timestamp::from_millis(1_000_000), false);
            for (at, events) in arrivals {
                record.arrivals.add(Timestamp::from_nanos(at), events);
                record.arrivals.lease(Timestamp::from_nanos(at), events);
            }
            prop_assert_eq!(PoolRecord::decode(&bytes(&record)), Ok(record));
        }
    }
}
