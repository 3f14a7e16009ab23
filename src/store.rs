//! Where the workers keep what they share, and the loop that changes it.

#![forbid(unsafe_code)]

use alloc::{collections::BTreeMap, format, rc::Rc, string::String, vec::Vec};
use core::{cell::RefCell, fmt, num::NonZeroU32};

use crate::engine::{
    Change, DetectorConfig, Fault, PoolRecord, Record, Records, Shared, TideRecord,
};

/// Every key begins with this, since a host may have one space for all of its plugins; the number
/// changes with the layout of what is there.
pub const PREFIX: &str = "tidegate/3";

/// How often a change is begun anew when others get in between.
///
/// Somebody's change succeeds in every round, so with `w` workers that all change at once a
/// worker needs `w` tries at worst; 64 that change in the same few microseconds are not seen.
const TRIES: u32 = 64;

/// The version of a value, to be given back when it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub NonZeroU32);

/// Why a value was not replaced or not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another worker replaced it in the meantime.
    Mismatch,
    /// The host failed.
    Host,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "the shared value was replaced in the meantime",
            Self::Host => "the host failed to read or write a shared value",
        })
    }
}

impl core::error::Error for StoreError {}

/// Values by key, shared by all workers of one Envoy. A key can't be removed again.
pub trait SharedStore {
    /// The value and its version; `None` when there is none yet.
    ///
    /// # Errors
    /// [`StoreError::Host`].
    fn load(&mut self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError>;

    /// Replaces the value if its version is still `cas`. Without one it is replaced whatever is
    /// there, which is only right for the first value of a key.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when somebody else replaced it, [`StoreError::Host`].
    fn compare_and_set(
        &mut self,
        key: &str,
        value: &[u8],
        cas: Option<Cas>,
    ) -> Result<(), StoreError>;
}

/// Changes the value at `key` until nobody gets in between. `change` sees the old value, and gives
/// the new one or `None` to leave it.
///
/// A first value is written and read again before it is changed, so that of two workers that both
/// find none only the time between the two calls is lost, and not a change.
///
/// # Errors
/// [`Fault::StoreContended`] after 64 tries, [`Fault::StoreFailed`].
pub fn update<S: SharedStore + ?Sized, R>(
    store: &mut S,
    key: &str,
    first: impl Fn() -> Vec<u8>,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, R),
) -> Result<R, Fault> {
    for _ in 0..TRIES {
        let Some((old, cas)) = store.load(key).map_err(|_| Fault::StoreFailed)? else {
            store
                .compare_and_set(key, &first(), None)
                .map_err(|_| Fault::StoreFailed)?;
            continue;
        };
        let (new, answer) = change(&old);
        let Some(new) = new else {
            return Ok(answer);
        };
        match store.compare_and_set(key, &new, Some(cas)) {
            Ok(()) => return Ok(answer),
            Err(StoreError::Mismatch) => {}
            Err(StoreError::Host) => return Err(Fault::StoreFailed),
        }
    }
    Err(Fault::StoreContended)
}

/// A [`Record`] in a store.
#[derive(Debug)]
pub struct SharedRecord<'a, S: ?Sized, R: Record> {
    store: &'a mut S,
    key: &'a str,
    setting: R::Setting,
    replaced: bool,
}

impl<'a, S: SharedStore + ?Sized, R: Record> SharedRecord<'a, S, R> {
    /// The record at `key`.
    pub fn new(store: &'a mut S, key: &'a str, setting: R::Setting) -> Self {
        Self {
            store,
            key,
            setting,
            replaced: false,
        }
    }

    /// Makes sure that there is one.
    ///
    /// # Errors
    /// [`Fault::StoreFailed`].
    pub fn begin(&mut self) -> Result<(), Fault> {
        self.update(|_| Change::Keep(()))
    }

    /// Whether one of another version or origin was replaced.
    pub fn replaced(&self) -> bool {
        self.replaced
    }
}

impl<S: SharedStore + ?Sized, R: Record> Shared<R> for SharedRecord<'_, S, R> {
    fn update<A>(&mut self, mut change: impl FnMut(&mut R) -> Change<A>) -> Result<A, Fault> {
        let setting = self.setting;
        let mut foreign = false;
        let first = || encoded(&R::fresh(setting));
        let answer = update(self.store, self.key, first, |bytes| {
            let mut record = R::decode(bytes, setting).unwrap_or_else(|| {
                foreign = true;
                R::fresh(setting)
            });
            let (write, answer) = match change(&mut record) {
                Change::Keep(answer) => (foreign, answer),
                Change::Write(answer) => (true, answer),
            };
            (write.then(|| encoded(&record)), answer)
        });
        self.replaced |= foreign && answer.is_ok();
        answer
    }
}

/// Where the records of a rule are.
#[derive(Clone, Debug)]
pub struct RuleKeys {
    pool: String,
    tide: String,
    /// Before the number of a worker's place.
    callers: String,
}

impl RuleKeys {
    /// Those of the rule of that name.
    pub fn new(rule: &str) -> Self {
        Self {
            pool: format!("{PREFIX}/{rule}/pool"),
            tide: format!("{PREFIX}/{rule}/tide"),
            callers: format!("{PREFIX}/{rule}/callers"),
        }
    }
}

/// Where the last line about a surge of the rule of that name is, as JSON.
pub fn told_key(rule: &str) -> String {
    format!("{PREFIX}/{rule}/told")
}

/// The records of one rule in a store.
#[derive(Debug)]
pub struct RuleRecords<'a, S: ?Sized> {
    store: &'a mut S,
    keys: &'a RuleKeys,
    setting: DetectorConfig,
    replaced: bool,
}

impl<'a, S: SharedStore + ?Sized> RuleRecords<'a, S> {
    /// The records at `keys`.
    pub fn new(store: &'a mut S, keys: &'a RuleKeys, setting: DetectorConfig) -> Self {
        Self {
            store,
            keys,
            setting,
            replaced: false,
        }
    }

    /// Makes sure that there are some.
    ///
    /// # Errors
    /// [`Fault::StoreFailed`].
    pub fn begin(&mut self) -> Result<(), Fault> {
        Shared::<PoolRecord>::update(self, |_| Change::Keep(()))?;
        Shared::<TideRecord>::update(self, |_| Change::Keep(()))
    }

    /// Whether one of another version or origin was replaced.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    fn change<R: Record, A>(
        &mut self,
        key: &str,
        setting: R::Setting,
        change: impl FnMut(&mut R) -> Change<A>,
    ) -> Result<A, Fault> {
        let mut record = SharedRecord::new(self.store, key, setting);
        let answer = record.update(change);
        self.replaced |= record.replaced();
        answer
    }
}

impl<S: SharedStore + ?Sized> Shared<PoolRecord> for RuleRecords<'_, S> {
    fn update<A>(&mut self, change: impl FnMut(&mut PoolRecord) -> Change<A>) -> Result<A, Fault> {
        let keys = self.keys;
        self.change(&keys.pool, (), change)
    }
}

impl<S: SharedStore + ?Sized> Shared<TideRecord> for RuleRecords<'_, S> {
    fn update<A>(&mut self, change: impl FnMut(&mut TideRecord) -> Change<A>) -> Result<A, Fault> {
        let (keys, setting) = (self.keys, self.setting);
        self.change(&keys.tide, setting, change)
    }
}

impl<S: SharedStore + ?Sized> Records for RuleRecords<'_, S> {
    fn put_callers(&mut self, place: u32, table: &[u8]) {
        let key = format!("{}/{place}", self.keys.callers);
        let _ = self.store.compare_and_set(&key, table, None);
    }

    fn callers(&mut self, place: u32) -> Option<Vec<u8>> {
        let key = format!("{}/{place}", self.keys.callers);
        let (table, _) = self.store.load(&key).ok()??;
        Some(table)
    }
}

fn encoded(record: &impl Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

/// A store in memory, for tests and for replaying the past. Its clones share the values.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    values: Rc<RefCell<BTreeMap<String, Versioned>>>,
}

/// A value, and the number of times that it was replaced.
type Versioned = (Vec<u8>, NonZeroU32);

impl SharedStore for MemoryStore {
    fn load(&mut self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        let values = self.values.borrow();
        Ok(values
            .get(key)
            .map(|(value, version)| (value.clone(), Cas(*version))))
    }

    fn compare_and_set(
        &mut self,
        key: &str,
        value: &[u8],
        cas: Option<Cas>,
    ) -> Result<(), StoreError> {
        let mut values = self.values.borrow_mut();
        let version = values.get(key).map(|(_, version)| *version);
        match (cas, version) {
            (Some(Cas(expected)), Some(actual)) if expected != actual => {
                return Err(StoreError::Mismatch);
            }
            (Some(_), None) => return Err(StoreError::Mismatch),
            _ => {}
        }
        let next = version.map_or(NonZeroU32::MIN, |version| {
            version.checked_add(1).unwrap_or(NonZeroU32::MIN)
        });
        values.insert(key.into(), (value.to_vec(), next));
        Ok(())
    }
}
