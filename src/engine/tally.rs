//! What happened at a gate, to be told from time to time.

use super::decision::{Fault, Reason};

/// What happened at a gate since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Arrivals, whatever became of them.
    pub arrivals: u32,
    /// Went to the upstream; in shadow mode that is everyone.
    pub admitted: u32,
    /// Had to wait; later they are admitted, rejected, or gone.
    pub held: u32,
    /// Of those that are refused or led elsewhere, the ones that lacked what everybody may have;
    /// the others are [shed](Self::shed).
    pub pressure: u32,
    /// Those that were refused or led elsewhere for a surge: a hot caller's, or not of the share that
    /// is served.
    pub shed: u32,
    /// Led to another upstream instead of being refused.
    pub redirected: u32,
    /// Refused, by [`Reason::index`].
    pub rejected: [u32; Reason::ALL.len()],
    /// Would have been refused or redirected by enforce, by [`Reason::index`].
    pub shadow_rejected: [u32; Reason::ALL.len()],
    /// By [`Fault::index`].
    pub faults: [u32; Fault::ALL.len()],
}

impl Tally {
    /// Counts a refusal.
    pub fn reject(&mut self, shadow: bool, reason: Reason) {
        let counters = if shadow {
            &mut self.shadow_rejected
        } else {
            &mut self.rejected
        };
        if let Some(counter) = counters.get_mut(reason.index()) {
            *counter += 1;
        }
    }

    /// Counts one that goes to another upstream.
    pub fn redirect(&mut self, shadow: bool, reason: Reason) {
        if shadow {
            self.reject(true, reason);
        } else {
            self.redirected += 1;
        }
    }

    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault) {
        if let Some(counter) = self.faults.get_mut(fault.index()) {
            *counter += 1;
        }
    }
}
