//! The gate of one rule in one worker.

use core::{num::NonZeroU32, time::Duration};

/// The configured ceilings of a rule. What is `None` has no ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open at once, over all workers.
    pub inflight: Option<NonZeroU32>,
    /// Admitted in any trailing second, over all workers.
    pub arrivals_per_s: Option<NonZeroU32>,
    /// TCP: admitted and not yet answered by the upstream, over all workers.
    pub connecting: Option<NonZeroU32>,
}

/// How arrivals over a limit wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Nobody waits longer than this.
    pub max_wait: Duration,
    /// At most this many wait at once in one worker.
    pub max_waiting: NonZeroU32,
    /// Who is served first.
    pub order: Order,
}

/// Who is served first of those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest: after an overload the oldest have given up already.
    #[default]
    NewestFirst,
    /// The oldest: fair, but a wait near the clients' time-out keeps an overload alive.
    OldestFirst,
}
