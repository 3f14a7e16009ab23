//! What is decided about an arrival, as values.

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

/// What happens to an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the upstream, and has its slot.
    Admit,
    /// It waits for a slot; a later tick admits or rejects it.
    Hold,
    /// It is refused.
    Reject(Reason),
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
    /// `hold.max_waiting` were waiting already.
    HoldFull,
    /// It waited `hold.max_wait` in vain.
    HoldTimeout,
}

impl Reason {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 5] = [
        Self::InflightLimit,
        Self::ArrivalLimit,
        Self::ConnectingLimit,
        Self::HoldFull,
        Self::HoldTimeout,
    ];

    /// The value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InflightLimit => "inflight_limit",
            Self::ArrivalLimit => "arrival_limit",
            Self::ConnectingLimit => "connecting_limit",
            Self::HoldFull => "hold_full",
            Self::HoldTimeout => "hold_timeout",
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
    /// The host called in where it may not, or named a stream that is not known.
    UnexpectedCallback,
    /// The host refused to carry out a decision.
    HostCallFailed,
    /// More refusals in a database's protocol at once than are kept; the rest were closed.
    RefusalsFull,
}

impl Fault {
    /// Every fault, in the order of [`index`](Self::index).
    pub const ALL: [Self; 8] = [
        Self::StoreContended,
        Self::StoreFailed,
        Self::RecordReplaced,
        Self::WorkersFull,
        Self::WorkerReaped,
        Self::UnexpectedCallback,
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
            Self::UnexpectedCallback => "unexpected_callback",
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
