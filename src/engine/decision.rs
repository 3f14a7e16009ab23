//! What is asked and what is decided about an arrival, as values.

use core::{num::NonZeroU32, time::Duration};

use super::waiting::StreamId;

/// Whether a rule acts, only counts, or is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Neither counts nor acts.
    Off,
    /// Counts what [`Enforce`](Self::Enforce) would have done, and changes nothing.
    #[default]
    Shadow,
    /// Holds and rejects.
    Enforce,
}

impl Mode {
    /// As the configuration and the events write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }
}

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

impl Limits {
    /// Whether there is no ceiling at all.
    pub const fn is_none(&self) -> bool {
        self.inflight.is_none() && self.arrivals_per_s.is_none() && self.connecting.is_none()
    }
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

/// At most this many classes of a rule are told apart.
pub const MAX_CLASSES: usize = 8;

/// What a rule says about its arrivals; the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What they must fit under.
    pub limits: Limits,
    /// How they wait when they don't; `None`: they are refused at once.
    pub hold: Option<Hold>,
    /// They go on whatever is decided; only what enforce would have done is counted.
    pub shadow: bool,
    /// What would be refused goes to another upstream.
    pub redirects: bool,
    /// Slots of `limits.inflight` that belong to one class alone, by [`Class::index`].
    pub reserved: [u32; MAX_CLASSES],
}

/// Which class an arrival is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its place among the classes of its rule, below [`MAX_CLASSES`].
    pub index: u8,
    /// 0 is served first, and never shed for the pressure of a surge.
    pub priority: u8,
}

impl Default for Class {
    /// That of an arrival that no class is for.
    fn default() -> Self {
        Self {
            index: u8::MAX,
            priority: 1,
        }
    }
}

/// Who an arrival is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// [`keyed_hash`](super::keyed_hash) of the caller's key.
    pub caller: u64,
    /// For how many arrivals it stands, when only one in so many is looked at.
    pub weight: u8,
}

/// A connection or request that begins.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// How the host names it.
    pub id: StreamId,
    /// What its rule says.
    pub terms: &'a Terms,
    /// Its class.
    pub class: Class,
    /// Its caller; `None` when nobody is told apart, or this one was not looked at.
    pub counted: Option<Counted>,
}

/// What happens to an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the upstream, and has its slot.
    Admit,
    /// It waits for a slot; a later tick admits or rejects it.
    Hold,
    /// It goes to another upstream, where it needs no slot.
    Redirect(Reason),
    /// It is refused.
    Reject(Reason),
}

/// Where a stream stands in the gate's books. The shell keeps it and gives it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a slot that is not given back is lost"]
pub enum Place {
    /// Refused, or never counted.
    #[default]
    Nowhere,
    /// Held.
    Waiting,
    /// Admitted: has a slot.
    Open {
        /// The upstream has not answered yet, and the rule limits how many of those there are.
        connecting: bool,
        /// For whom the slot is counted.
        booked: Booked,
    },
    /// Shadow: open, though enforce would not have admitted it; has no slot.
    Ghost,
}

impl Place {
    /// The place of the class that it is counted for, among those of its rule.
    pub const fn class(self) -> Option<u8> {
        match self {
            Self::Open { booked, .. } => Some(booked.class),
            _ => None,
        }
    }
}

/// For whom a slot is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// [`Class::index`].
    pub(crate) class: u8,
    /// The caller's place among those of this worker, and for how many its slot stands.
    pub(crate) slot: Option<(u8, u8)>,
    /// Shadow: enforce would have let it begin so many ms later, and so it would end so much later.
    pub(crate) late_ms: u32,
}

/// What became of one that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which one.
    pub id: StreamId,
    /// Anything but [`Decision::Hold`].
    pub decision: Decision,
    /// Where it stands now.
    pub place: Place,
    /// How long it waited.
    pub waited: Duration,
    /// It went on long ago; nothing is to be done.
    pub shadow: bool,
}

/// Why an arrival was refused; the `reason` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `limits.inflight` was reached, and nothing was to be held.
    InflightLimit,
    /// `limits.arrivals_per_s` was reached, and nothing was to be held.
    ArrivalLimit,
    /// `limits.connecting` was reached, and nothing was to be held.
    ConnectingLimit,
    /// Its caller has more than is normal for it: in a surge its rate is cut, and at any time it
    /// may only take the slots that the normal use of the others leaves free.
    HotCaller,
    /// In a surge that everybody makes: its user is not of the share that is served.
    SurgePressure,
    /// `hold.max_waiting` were waiting already.
    HoldFull,
    /// It waited `hold.max_wait` in vain for what the limits of everybody allow.
    HoldTimeout,
    /// The inflight limit as it was lowered for an upstream in distress was reached, and it waited
    /// in vain, or was not to wait.
    AdaptiveLimit,
}

impl Reason {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 8] = [
        Self::InflightLimit,
        Self::ArrivalLimit,
        Self::ConnectingLimit,
        Self::HotCaller,
        Self::SurgePressure,
        Self::HoldFull,
        Self::HoldTimeout,
        Self::AdaptiveLimit,
    ];

    /// The value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InflightLimit => "inflight_limit",
            Self::ArrivalLimit => "arrival_limit",
            Self::ConnectingLimit => "connecting_limit",
            Self::HotCaller => "hot_caller",
            Self::SurgePressure => "surge_pressure",
            Self::HoldFull => "hold_full",
            Self::HoldTimeout => "hold_timeout",
            Self::AdaptiveLimit => "adaptive_limit",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What went wrong without anybody's fault; the `kind` label of the metrics.
///
/// Each of them lets arrivals pass rather than be lost: a guard that fails is no worse than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too many workers changed the shared record at once, more often than is tried.
    StoreContended,
    /// The host refused to read or to write the shared record.
    StoreFailed,
    /// The shared record was none of this version, and was begun anew.
    RecordReplaced,
    /// More workers than the shared record has rows for.
    WorkersFull,
    /// A worker stopped without giving its slots back; they were taken back.
    WorkerReaped,
    /// The host refused to carry out a decision.
    HostCallFailed,
    /// More refusals were to be kept at once, slow ones or ones in a database's protocol, than there
    /// is room for; the rest were refused, or closed, at once.
    RefusalsFull,
}

impl Fault {
    /// Every fault, in the order of [`index`](Self::index).
    pub const ALL: [Self; 7] = [
        Self::StoreContended,
        Self::StoreFailed,
        Self::RecordReplaced,
        Self::WorkersFull,
        Self::WorkerReaped,
        Self::HostCallFailed,
        Self::RefusalsFull,
    ];

    /// The value of the `kind` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::StoreContended => "store_contended",
            Self::StoreFailed => "store_failed",
            Self::RecordReplaced => "record_replaced",
            Self::WorkersFull => "workers_full",
            Self::WorkerReaped => "worker_reaped",
            Self::HostCallFailed => "host_call_failed",
            Self::RefusalsFull => "refusals_full",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn every_label_stands_at_its_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.index(), index);
        }
    }
}
