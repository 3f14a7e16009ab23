//! The callers whose rate is cut in a surge.

use alloc::vec::Vec;

use super::bytes::{MemoryError, Put, Reader};

/// At most this many callers are cut at once.
pub const MAX_HOT: usize = 16;
/// A caller keeps this multiple of its normal rate, and this rate a second at least.
const KEPT: f64 = 1.5;
const LEAST_PER_S: f64 = 1.0;
/// The share that is let through grows and shrinks by at most this in one step.
const GROWS: f32 = 1.2;
const SHRINKS: f32 = 0.5;
/// It is never below this.
const LEAST: f32 = 1e-4;

/// A hot caller, as all workers together see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heat {
    /// [`keyed_hash`](super::keyed_hash) of its key.
    pub caller: u64,
    /// Its arrivals a second, and those that went on, or were held or refused for other reasons.
    pub offered_per_s: f64,
    /// Of them, those that were not cut.
    pub passed_per_s: f64,
    /// Its normal rate a second.
    pub baseline_per_s: f64,
}

impl Heat {
    /// What it asks for beyond what passes of a caller that is cut, a second.
    pub fn excess_per_s(&self) -> f64 {
        (self.offered_per_s - quota(self)).max(0.0)
    }
}

/// What is let through of a hot caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// [`keyed_hash`](super::keyed_hash) of its key.
    pub caller: u64,
    /// This part of its arrivals or of its users, from 0.0001 to 1.
    pub share: f32,
}

/// The hot callers and what is let through of each: its normal rate, and half as much again, but
/// one arrival a second at least.
///
/// The share begins at `quota ÷ offered` and is then led by what really passes, since users are not
/// equal: it shrinks by the part that was too much, to half at most, and grows by a fifth when less
/// than 90 % of the quota passes. A caller that is not hot any more is let in again in the same
/// steps of a fifth, four a second, and forgotten when all of it is served.
///
/// At most 16 callers; of more, the ones with the largest excess are cut. Cost: a pass over 16 at an
/// arrival while there are any, nothing otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cuts(Vec<Cut>);

impl Cuts {
    pub fn get(&self) -> &[Cut] {
        &self.0
    }

    /// Takes who is hot now, the hottest first.
    pub fn step(&mut self, hot: &[Heat]) {
        for cut in &mut self.0 {
            let heat = hot.iter().find(|heat| heat.caller == cut.caller);
            let factor = match heat {
                None => GROWS,
                Some(heat) => {
                    let room = quota(heat) / heat.passed_per_s.max(1e-9);
                    if room < 0.95 {
                        (room as f32).max(SHRINKS)
                    } else if room > 1.1 {
                        GROWS
                    } else {
                        1.0
                    }
                }
            };
            cut.share = (cut.share * factor).clamp(LEAST, 1.0);
        }
        self.0
            .retain(|cut| cut.share < 1.0 || hot.iter().any(|heat| heat.caller == cut.caller));
        for heat in hot {
            let known = self.0.iter().any(|cut| cut.caller == heat.caller);
            if !known && self.0.len() < MAX_HOT {
                let share = quota(heat) / heat.offered_per_s.max(1e-9);
                self.0.push(Cut {
                    caller: heat.caller,
                    share: (share as f32).clamp(LEAST, 1.0),
                });
            }
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        // At most MAX_HOT of them exist.
        out.push(self.0.len() as u8);
        for cut in &self.0 {
            out.put(cut.caller.to_le_bytes());
            out.put(cut.share.to_le_bytes());
        }
    }

    pub fn read(bytes: &mut Reader<'_>) -> Result<Self, MemoryError> {
        let count = usize::from(bytes.u8()?);
        if count > MAX_HOT {
            return Err(MemoryError::Length);
        }
        let mut cuts = Vec::with_capacity(count);
        for _ in 0..count {
            cuts.push(Cut {
                caller: bytes.u64()?,
                share: bytes.f32(LEAST..=1.0)?,
            });
        }
        Ok(Self(cuts))
    }
}

/// What passes of a caller that is cut, a second.
fn quota(heat: &Heat) -> f64 {
    (KEPT * heat.baseline_per_s).max(LEAST_PER_S)
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn heat(offered_per_s: f64, passed_per_s: f64) -> Heat {
        Heat {
            caller: 7,
            offered_per_s,
            passed_per_s,
            baseline_per_s: 20.0,
        }
    }

    #[test]
    fn a_hot_caller_is_cut_to_half_as_much_again_as_is_normal_for_it() {
        let mut cuts = Cuts::default();
        cuts.step(&[heat(300.0, 300.0)]);
        assert_eq!(cuts.get()[0].share, 0.1);
        cuts.step(&[heat(300.0, 60.0)]);
        assert_eq!(cuts.get()[0].share, 0.05, "one user makes most of it");
        cuts.step(&[heat(300.0, 10.0)]);
        assert!((cuts.get()[0].share - 0.06).abs() < 1e-6);
        cuts.step(&[heat(300.0, 29.0)]);
        assert!((cuts.get()[0].share - 0.06).abs() < 1e-6, "near enough");
    }

    #[test]
    fn a_caller_that_calmed_down_is_let_in_again_in_steps() {
        let mut cuts = Cuts::default();
        cuts.step(&[heat(300.0, 300.0)]);
        let mut steps = 0;
        while !cuts.get().is_empty() {
            cuts.step(&[]);
            steps += 1;
        }
        assert_eq!(steps, 13, "some three seconds at four steps a second");
    }

    #[test]
    fn no_more_than_sixteen_are_cut() {
        let mut cuts = Cuts::default();
        let many: Vec<Heat> = (0..40)
            .map(|caller| Heat {
                caller,
                ..heat(100.0, 100.0)
            })
            .collect();
        cuts.step(&many);
        cuts.step(&many);
        assert_eq!(cuts.get().len(), MAX_HOT);
    }
}
