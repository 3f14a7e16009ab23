//! How much was done, over all tests of this program.

use std::sync::{Mutex, MutexGuard};

use crate::weather::{Import, Status};

/// What a callback may cost at most, in wasmi's fuel: about one for each instruction. A tenth of a
/// second, and reached by half only where each write of shared data comes too late 64 times.
pub const MOST_FUEL: u64 = 200_000_000;
/// The linear memory of a machine never has more than so many bytes.
pub const MOST_MEMORY: usize = 64 << 20;

#[derive(Clone, Debug)]
pub struct Seen {
    pub machines: u64,
    pub callbacks: u64,
    /// By import and by status; what no ABI names comes last.
    pub answers: [[u64; Status::NAMES.len() + 1]; Import::ALL.len()],
    /// Answers with other data than there was.
    pub garbled: u64,
    pub most_fuel: (u64, &'static str),
    pub most_fuel_to_configure: u64,
    pub most_memory: usize,
}

impl Seen {
    pub const fn new() -> Self {
        Self {
            machines: 0,
            callbacks: 0,
            answers: [[0; Status::NAMES.len() + 1]; Import::ALL.len()],
            garbled: 0,
            most_fuel: (0, ""),
            most_fuel_to_configure: 0,
            most_memory: 0,
        }
    }

    pub fn answered(&mut self, import: Import, status: u32) {
        let known = (status as usize).min(Status::NAMES.len());
        self.answers[import as usize][known] += 1;
    }

    pub fn spent(&mut self, callback: &'static str, fuel: u64) {
        if callback == "proxy_on_configure" {
            self.most_fuel_to_configure = self.most_fuel_to_configure.max(fuel);
        } else if fuel > self.most_fuel.0 {
            self.most_fuel = (fuel, callback);
        }
    }

    fn add(&mut self, other: &Self) {
        self.machines += other.machines;
        self.callbacks += other.callbacks;
        self.garbled += other.garbled;
        let all = self.answers.iter_mut().flatten();
        for (sum, more) in all.zip(other.answers.iter().flatten()) {
            *sum += more;
        }
        self.most_fuel = self.most_fuel.max(other.most_fuel);
        self.most_fuel_to_configure = self
            .most_fuel_to_configure
            .max(other.most_fuel_to_configure);
        self.most_memory = self.most_memory.max(other.most_memory);
    }
}

static TOTAL: Mutex<Seen> = Mutex::new(Seen::new());

fn total() -> MutexGuard<'static, Seen> {
    TOTAL
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Adds what a machine has seen.
pub fn add(seen: &Seen) {
    total().add(seen);
}

/// Prints what was done until now.
pub fn tell(test: &str) {
    let total = total().clone();
    let calls: u64 = total.answers.iter().flatten().sum();
    let failed: u64 = total.answers.iter().flat_map(|row| &row[1..]).sum();
    eprintln!(
        "after {test}: {} machines, {} callbacks, {calls} host calls, of which {failed} did not \
         answer Ok and {} handed over something else; most fuel in a callback {} ({}), to \
         configure {}; most memory {} KiB",
        total.machines,
        total.callbacks,
        total.garbled,
        total.most_fuel.0,
        total.most_fuel.1,
        total.most_fuel_to_configure,
        total.most_memory >> 10,
    );
}
