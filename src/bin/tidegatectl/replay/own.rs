//! What a lone worker shares with nobody: its records, without a store.

use tidegate::engine::{
    Change, DetectorConfig, Fault, PoolRecord, Record as _, Records, Shared, TideRecord,
};

/// The records of one rule.
pub struct Own {
    pub pool: PoolRecord,
    pub tide: TideRecord,
}

impl Own {
    /// Records that say nothing.
    pub fn new(surge: DetectorConfig) -> Self {
        Self {
            pool: PoolRecord::default(),
            tide: TideRecord::fresh(surge),
        }
    }
}

fn changed<A>(change: Change<A>) -> Result<A, Fault> {
    match change {
        Change::Keep(answer) | Change::Write(answer) => Ok(answer),
    }
}

impl Shared<PoolRecord> for Own {
    fn update<A>(
        &mut self,
        mut change: impl FnMut(&mut PoolRecord) -> Change<A>,
    ) -> Result<A, Fault> {
        changed(change(&mut self.pool))
    }
}

impl Shared<TideRecord> for Own {
    fn update<A>(
        &mut self,
        mut change: impl FnMut(&mut TideRecord) -> Change<A>,
    ) -> Result<A, Fault> {
        changed(change(&mut self.tide))
    }
}

impl Records for Own {
    fn put_callers(&mut self, _place: u32, _table: &[u8]) {}

    fn callers(&mut self, _place: u32) -> Option<Vec<u8>> {
        None
    }
}
