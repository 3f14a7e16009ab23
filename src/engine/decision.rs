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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
